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
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from fgrad.backends.cpu import half
from fgrad.backends.cpu.emission import object_files
from fgrad.backends.cpu.object_cache import ObjectCache, default_folder
from fgrad.backends.cpu.target import Target, host
from fgrad.core.errors import CompilationError

Render = Callable[[Sequence[str]], Sequence[str]]

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
            render: LLVM text, a module each, that defines the functions named, and others beside
                them.

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
        return self._code(names, lambda _names: [text], passes=True)

    def _code(self, names: Sequence[str], render: Render, *, passes: bool = False) -> Code:
        parts = [self.target.key, generator_key(), *sorted(names)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        kept = self.cache.get(key)
        if kept is not None:
            try:
                return self._link(kept)
            except (RuntimeError, ValueError, struct.error):  # intact on disk, and yet no code
                self.cache.drop(key)
        try:
            made = self._compile(render(names), passes=passes)
            code = self._link(made)
        except CompilationError:  # no code for what a kernel asks
            raise
        except RuntimeError as error:
            raise CompilationError(
                f"LLVM rejects the code of a kernel, which is a fault of fgrad: {error}; set "
                f"FGRAD_CPU_COMPILER=numpy to run without compiled kernels"
            ) from error
        self.cache.put(key, made)
        return code

    def _compile(self, texts: Sequence[str], *, passes: bool) -> bytes:
        """An entry for the cache: the defined names, and the object files."""
        images = object_files(texts, self.target, passes=passes)
        names = [name for text in texts for name in _DEFINED.findall(text)]
        head = json.dumps([names, list(map(len, images))]).encode()
        return b"".join([struct.pack("<q", len(head)), head, *images])

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


@functools.cache
def generator_key() -> str:
    """The version of the code generator: a hash of its source."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


@functools.cache
def engine() -> Engine:
    """The engine of this machine and process."""
    return Engine(host(), ObjectCache(default_folder()))
