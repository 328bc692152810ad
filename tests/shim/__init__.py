"""Runs CUDA C on the CPU: a module is compiled by g++, in front of it the emulation of this folder.

`build` makes a library of the text of a module; `Shim.run` launches one of its kernels. A launch
that does what is undefined on a device raises `LaunchError`, see ``machine.h``.
"""

import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\('
)
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w\s:<>]+?)\s+(\w+)\s*\[\s*\]\s*;"
)
_KEPT_FILES = 2000
_FLAGS = (
    "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off", "-fno-exceptions",
    "-fno-rtti", "-fsanitize=bounds,alignment", "-fno-sanitize-recover=all", "-nodefaultlibs",
    "-U_FORTIFY_SOURCE",
)  # fmt: skip


def kernel_names(source: str) -> list[str]:
    """The kernels of a module."""
    return _KERNEL.findall(source)


class LaunchError(Exception):
    """A launch that means nothing on a device, or would hang there."""


class Shim:
    """The kernels of one module.

    Attributes:
        names: What they are called.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        # With the interpreter's lock held: a module has one set of fibers.
        self._launch = ctypes.PyDLL(str(path)).shim_launch
        self._launch.restype = ctypes.c_char_p
        self.names = tuple(names)

    def run(
        self,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        shared_bytes: int,
        args: Sequence[Any],
        *,
        last_first: bool = False,
    ) -> None:
        """Launch a kernel and wait for it.

        Args:
            name: Of the kernel.
            grid: Blocks along x, or along x, y and z.
            block: Threads of a block, likewise.
            shared_bytes: The dynamic shared memory of a block.
            args: For a pointer an array, an address or None; for anything else its bytes.
            last_first: Start the threads of a block in the other order. What depends on the order
                has a race.

        Raises:
            LaunchError: See `machine.h`.
        """
        values = [_parameter(x) for x in args]
        sizes = (ctypes.c_uint * (len(values) + 1))(*map(len, values), 0xFFFFFFFF)
        buffers = [ctypes.create_string_buffer(v, max(1, len(v))) for v in values]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, buffers))
        self._checked(name, grid, block, shared_bytes, pointers, sizes, last_first)

    def launch(
        self,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        shared_bytes: int,
        params: int,
    ) -> None:
        """Launch a kernel as the driver does.

        Args:
            name: Of the kernel.
            grid: Blocks along x, or along x, y and z.
            block: Threads of a block, likewise.
            shared_bytes: The dynamic shared memory of a block.
            params: The address of the addresses of the parameters, which are not checked.

        Raises:
            LaunchError: See `machine.h`.
        """
        self._checked(name, grid, block, shared_bytes, ctypes.c_void_p(params), None, False)

    def _checked(self, name: str, grid: Any, block: Any, shared: int, *rest: Any) -> None:
        which = self.names.index(name)
        error = self._launch(which, _three(grid), _three(block), shared, *rest, _stacks())
        if error is not None:
            raise LaunchError(error.decode())


def build(source: str, optimize: str = "-O1") -> Shim:
    """Compile a module; the same text is compiled once a session.

    Args:
        source: CUDA C, the prelude included.
        optimize: The level of optimisation.

    Raises:
        RuntimeError: It does not compile; with what the compiler says.
    """
    return _built(source, optimize)


@functools.cache
def _built(source: str, optimize: str) -> Shim:
    names = kernel_names(source)
    body = _DYNAMIC.sub(r"\1* const \2 = (\1*)shim::dynamic_memory;", source)
    text = _TEMPLATE.format(
        body=body,
        entries="".join(f'    shim::entry("{name}", {name}),\n' for name in names),
    )
    folder = _folder()
    digest = hashlib.sha256((_headers() + optimize + text).encode()).hexdigest()[:24]
    path = folder / f"{digest}.so"
    if not path.exists():
        # Another worker may do the same.
        code, part = (folder / f"{digest}.{os.getpid()}.{kind}" for kind in ("cc", "so"))
        code.write_text(text)
        flags = [optimize if f == "-O1" else f for f in _FLAGS]
        made = subprocess.run(
            ["g++", *flags, f"-I{HERE}", "-o", part, code, "-lc", "-lm", "-lgcc"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"g++ does not compile {code}:\n{made.stderr[:4000]}")
        part.replace(path)
        code.unlink()
    path.touch()
    return Shim(path, names)


# Everything of a module is its own, so that static variables of templates may have a section.
_TEMPLATE = """#include "language.h"
namespace {{
#line 1 "module"
{body}
const shim::Entry entries[] = {{
{entries}    {{}},
}};
}}
extern "C" const char* shim_launch(int which, const unsigned* grid, const unsigned* block,
                                   unsigned shared, void** params, const unsigned* sizes,
                                   int last_first, void* stacks) {{
  return shim::launch(entries[which], grid, block, shared, params, sizes, last_first,
                      (shim::Stacks*)stacks);
}}
"""


@functools.cache
def _folder() -> Path:
    """Where modules are kept between sessions: those used last."""
    folder = HERE.parents[1] / ".pytest_cache" / "shim"
    folder.mkdir(parents=True, exist_ok=True)
    ages = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages)[:-_KEPT_FILES]:
        path.unlink(missing_ok=True)
    return folder


@functools.cache
def _stacks() -> Any:
    """The memory of all fibers, with a page below each stack that nothing may touch."""
    page, size, count = mmap.PAGESIZE, 256 << 10, 1024  # as in machine.h
    memory = mmap.mmap(-1, size * count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None)
    for k in range(count):
        libc.mprotect(ctypes.c_void_p(start + k * size), ctypes.c_size_t(page), 0)
    stacks = (ctypes.c_void_p * 2)(None, start)
    stacks.held = memory
    return stacks


@functools.cache
def _headers() -> str:
    return "".join((HERE / name).read_text() for name in ("machine.h", "language.h"))


def _three(sizes: int | Sequence[int]) -> Any:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return (ctypes.c_uint * 3)(*given, *(1,) * (3 - len(given)))


def _parameter(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        value = value.ctypes.data
    return (value or 0).to_bytes(8, "little")
