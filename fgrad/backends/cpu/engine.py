"""LLVM text to functions in memory: compiled once for a name, kept on disk and here.

Names stand for content: whoever asks for a name derives it from everything that the code depends
on (see `layout.structure`), so one name is one function in every process.
"""

import ctypes
import functools
import hashlib
import itertools
import json
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm

from fgrad.backends.cpu import half
from fgrad.backends.cpu.emission import object_files, started
from fgrad.backends.cpu.generator import version
from fgrad.backends.cpu.target import Target, host
from fgrad.backends.object_cache import ObjectCache, default_folder
from fgrad.core.errors import CompilationError

Render = Callable[[Sequence[str]], str | Sequence[str]]

_DEFINED = re.compile(r"^define (?!internal|private|linkonce)[^@\n]*@([\w.]+)\(", re.MULTILINE)
_MAXSIZE = 4096  # functions kept; code in use stays as long as its `Code` does


class Code:
    """Loaded machine code; it is unloaded with the last reference.

    Attributes:
        addresses: Of each function, by name.
    """

    __slots__ = ("_tracker", "addresses")

    def __init__(self, tracker: Any, names: Sequence[str]) -> None:
        self._tracker = tracker
        self.addresses: dict[str, int] = {name: tracker[name] for name in names}


class Engine:
    """Compiles and loads code for one machine.

    Nothing is locked here. Two threads that miss the same name both compile it, and one of the two
    results is kept.

    Args:
        target: The machine.
        cache: Where compiled code is kept between processes.
    """

    def __init__(self, target: Target, cache: ObjectCache) -> None:
        self.target = target
        self.cache = cache
        self._codes: OrderedDict[str, Code] = OrderedDict()
        self._numbers = itertools.count()
        self._jit = llvm.create_lljit_compiler(
            target.machine(), use_jit_link=False, suppress_errors=False
        )
        # Threads of the pool sleep in this code until the process ends: it must outlive Python.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._jit))
        self._imports: dict[str, int] = {}
        if target.lacks_half:
            self._half = self.runtime(half.NAMES, half.TEXT)
            addresses = map(self._half.addresses.__getitem__, half.NAMES)
            self._imports = dict(zip(half.CALLED, addresses, strict=True))

    def load(self, names: Sequence[str], render: Render) -> dict[str, Code]:
        """The code that defines each name.

        Args:
            names: Names of functions.
            render: The LLVM text that defines the functions named, and others beside them; or
                several, a module each, which are compiled side by side.

        Raises:
            CompilationError: LLVM does not accept the text.
        """
        found: dict[str, Code] = {}
        for name in names:
            code = self._codes.get(name)
            if code is not None:
                found[name] = code
        missing = [name for name in dict.fromkeys(names) if name not in found]
        if missing:
            code = self._code(missing, render)
            for name in missing:
                found[name] = self._codes.setdefault(name, code)
            while len(self._codes) > _MAXSIZE:
                try:
                    self._codes.popitem(last=False)
                except KeyError:  # another thread has emptied it
                    break
        return found

    def runtime(self, names: Sequence[str], text: str) -> Code:
        """The code of one text, whose functions are inlined where it says so; what launches share.

        Args:
            names: The functions that it defines.
            text: LLVM text.
        """
        return self.begun(names, text)()

    def begun(self, names: Sequence[str], text: str) -> Callable[[], Code]:
        """Begin what `runtime` does; what is returned waits for the code."""
        # Texts of one name differ where objects have other fields, as in builds for debugging.
        key = self._key([*names, text])
        kept = self._kept(key)
        if kept is not None:
            return lambda: kept
        with _Told():
            making = started(text, self.target)
        return lambda: self._made(key, [text], lambda: [making.result()])

    def _code(self, names: Sequence[str], render: Render) -> Code:
        key = self._key(names)
        kept = self._kept(key)
        if kept is not None:
            return kept
        with _Told():
            found = render(names)
        texts = [found] if isinstance(found, str) else found
        return self._made(key, texts, lambda: object_files(texts, self.target))

    @functools.cached_property
    def _version(self) -> str:
        return version(self.cache)

    def _key(self, names: Sequence[str]) -> str:
        parts = [self.target.key, self._version, *sorted(names)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _kept(self, key: str) -> Code | None:
        """What the disk has."""
        kept = self.cache.get(key)
        if kept is not None:
            try:
                return self._link(kept)
            except (RuntimeError, ValueError, struct.error):  # intact on disk, and yet no code
                self.cache.drop(key)
        return None

    def _made(self, key: str, texts: Sequence[str], make: Callable[[], list[bytes]]) -> Code:
        """New code, which the disk keeps: the defined names, and the object files."""
        with _Told():
            images = make()
            names = [name for text in texts for name in _DEFINED.findall(text)]
            head = json.dumps([names, list(map(len, images))]).encode()
            entry = b"".join([struct.pack("<q", len(head)), head, *images])
            code = self._link(entry)
        self.cache.put(key, entry)
        return code

    def _link(self, entry: bytes) -> Code:
        (length,) = struct.unpack_from("<q", entry)
        names, sizes = json.loads(entry[8 : 8 + length])
        builder = llvm.JITLibraryBuilder()
        ends = itertools.accumulate(sizes, initial=8 + length)
        for first, end in itertools.pairwise(ends):
            builder.add_object_img(entry[first:end])
        builder.add_current_process()
        for name in names:
            builder.export_symbol(name)
        for name, address in self._imports.items():
            builder.import_symbol(name, address)
        return Code(builder.link(self._jit, f"fgrad{next(self._numbers)}"), names)


class _Told:
    """Says what it means that LLVM rejects a text.

    It is no generator, whose frame in the standard library would be taken for the user's line.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        # A `CompilationError` says already that there is no code for what a kernel asks.
        if isinstance(error, RuntimeError) and not isinstance(error, CompilationError):
            raise CompilationError(
                f"LLVM rejects the code of a kernel, which is a fault of fgrad: {error}; set "
                f"FGRAD_CPU_COMPILER=numpy to run without compiled kernels"
            ) from error


@functools.cache
def engine() -> Engine:
    """The engine of this machine and process."""
    return Engine(host(), ObjectCache(default_folder("cpu")))
