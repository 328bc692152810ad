"""Where in the user's source an operation was asked for.

Capturing must cost little, since it happens once an equation: it keeps the code object and the
instruction offset of the first frame outside the library, and computes the line only when asked.
"""

import os
import sys
import threading
from collections.abc import Callable
from types import CodeType

# pathlib takes a tenth of the import time of fgrad.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
# Files of the package and of those between: filled as frames are met, bounded by the number of
# source files loaded.
_internal: dict[str, bool] = {}
# Libraries that call the protocols of arrays: their lines are not the user's either.
_BETWEEN = tuple(f"-packages{os.sep}{name}{os.sep}" for name in ("numpy", "scipy", "torch", "cupy"))


class Where:
    """A place in the user's source: a code object and an instruction offset in it."""

    __slots__ = ("code", "offset")

    def __init__(self, code: CodeType, offset: int) -> None:
        self.code = code
        self.offset = offset

    @property
    def file(self) -> str:
        """The file's name, as Python knows it."""
        return self.code.co_filename

    @property
    def line(self) -> int:
        """The line of the instruction."""
        for start, end, line in self.code.co_lines():
            if start <= self.offset < end and line is not None:
                return line
        return self.code.co_firstlineno

    @property
    def function(self) -> str:
        """The function's qualified name."""
        return self.code.co_qualname

    def within(self, scope: str) -> "Where":
        """The same place, labelled by a named scope."""
        return ScopedWhere(self.code, self.offset, scope)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"

    def __repr__(self) -> str:
        return f"Where({self})"

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        return (_SavedWhere, (self.file, self.line, self.function))


class ScopedWhere(Where):
    """A place within a `fgrad.named_scope`.

    Attributes:
        scope: Names of the scopes, outermost first, joined by slashes.
    """

    __slots__ = ("scope",)

    def __init__(self, code: CodeType, offset: int, scope: str) -> None:
        super().__init__(code, offset)
        self.scope = scope

    def within(self, _scope: str) -> "Where":
        """Itself: an equation stays in the scope that it was written in."""
        return self

    def __str__(self) -> str:
        return f"{super().__str__()} in {self.scope}"

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        return (_SavedWhere, (self.file, self.line, f"{self.function}, {self.scope}"))


class _SavedWhere(Where):
    """A place read back from a file: only its text is left."""

    __slots__ = ("_saved",)

    def __init__(self, file: str, line: int, function: str) -> None:
        self._saved = (file, line, function)

    def within(self, _scope: str) -> "Where":
        """Itself."""
        return self

    file = property(lambda self: self._saved[0])
    line = property(lambda self: self._saved[1])
    function = property(lambda self: self._saved[2])


def is_internal(filename: str) -> bool:
    """Whether a source file belongs to the library or those between (tests do not)."""
    known = _internal.get(filename)
    if known is None:
        if filename.startswith(("<fgrad", "<frozen ")):
            return True  # generated: named by its address, not to be remembered; or Python's own
        inside = filename.startswith(_PACKAGE) or any(b in filename for b in _BETWEEN)
        known = _internal[filename] = inside
    return known


def capture() -> Where | None:
    """The innermost frame outside the library and NumPy, or None when there is none."""
    frame = sys._getframe(1)
    known = _internal
    while frame is not None:
        code = frame.f_code
        internal = known.get(code.co_filename)
        if internal is None:
            internal = is_internal(code.co_filename)
        if not internal:
            return Where(code, frame.f_lasti)
        frame = frame.f_back  # type: ignore[assignment]
    return None


class _Local(threading.local):
    """Of this thread: the line of the recorded equation that runs now, if one does."""

    source: Where | None = None
    scope: str = ""  # of `fgrad.named_scope`


local = _Local()


class user_lines:
    """Inside, functions of the user run: their own lines count, not that of the equation."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = local.source
        local.source = None

    def __exit__(self, *_exception: object) -> None:
        local.source = self.before


_context: list[Callable[[], str]] = []


def here() -> Where | None:
    """The user's line that asks for what runs now."""
    found = local.source or capture()
    return found if not local.scope or found is None else found.within(local.scope)


def set_context(describe: Callable[[], str]) -> None:
    """Install what says in words which transforms are open; once, at import."""
    _context[:] = [describe]


def suffix() -> str:
    """What an error message ends with: the user's line and the open transforms."""
    place = here()
    text = f"\n  at {place}" if place is not None else ""
    for describe in _context:
        words = describe()
        text += f"\n  inside {words}" if words else ""
    return text
