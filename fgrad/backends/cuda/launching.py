"""Kernels of users on the card: compiled once for a device, launched on CuPy's current stream.

Compiled by NVRTC with its own defaults (denormal numbers kept, no approximate division), which
CuPy's modules would change.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fgrad.core.errors import ArgumentError, CompilationError

Dims = tuple[int, ...]

_MOST = (2**31 - 1, 65535, 65535)  # blocks along x, y and z
_THREADS = 1024  # in a block
_AT_LINE = re.compile(r"^[^\n]*?\((\d+)\): (?:catastrophic )?error", re.MULTILINE)
_OPTIONS = ("-std=c++17",)
_PLAIN_SHARED = 48 << 10  # bytes of dynamic shared memory that a function may take without asking


def _cupy() -> Any:
    import cupy  # noqa: PLC0415 - heavy, and absent on most machines

    return cupy


def checked_dims(name: str, what: str, dims: Any) -> Dims:
    """A grid or block as three numbers that a launch takes.

    Raises:
        ArgumentError: It is none.
    """
    given = (dims,) if isinstance(dims, int | np.integer) else tuple(dims)
    sizes = tuple(int(n) for n in given) + (1,) * (3 - len(given))
    most = _MOST if what == "grid" else (_THREADS, _THREADS, 64)
    wrong = len(sizes) != 3 or any(not 0 <= n <= m for n, m in zip(sizes, most, strict=False))
    if wrong or (what == "block" and not 0 < prod(sizes) <= _THREADS):
        limits = " × ".join(map(str, most))
        raise ArgumentError(
            f"the {what} of kernel {name} must be up to three numbers within {limits}"
            f"{'' if what == 'grid' else ', with 1 to 1024 threads in all'}, got {dims!r}"
        )
    return sizes


def compiled(source: str, name: str, options: Sequence[str], arch: str) -> bytes:
    """Machine code of a source.

    Args:
        source: CUDA C.
        name: The kernel, for messages.
        options: For NVRTC.
        arch: The compute capability, such as "90".

    Raises:
        CompilationError: NVRTC finds an error; the message has its line.
    """
    nvrtc = _cupy().cuda.nvrtc
    flags = (f"--gpu-architecture=sm_{arch}", *_OPTIONS, *_include_flags(), *options)
    program = nvrtc.createProgram(source, f"{name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, flags)
        code: bytes = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program) or str(error)
        raise CompilationError(explained(source, name, log)) from None
    finally:
        nvrtc.destroyProgram(program)
    return code


def _include_flags() -> list[str]:
    """Where the headers of CUDA and of CuPy are, as far as they are installed."""
    cupy = _cupy()
    roots = [Path(cupy.__file__).parent / "_core" / "include"]
    toolkit = cupy.cuda.get_cuda_path()
    if toolkit is not None:
        roots.append(Path(toolkit) / "include")
    try:  # what CuPy itself finds libraries by
        found = import_module("cuda.pathfinder").find_nvidia_header_directory("cudart")
    except (ImportError, AttributeError, RuntimeError):
        found = None
    if found is not None:
        roots.append(Path(found))
    return [f"-I{root}" for root in roots if root.is_dir()]


def explained(source: str, name: str, log: str) -> str:
    """What NVRTC says, with the first line at fault.

    Args:
        source: CUDA C.
        name: The kernel.
        log: NVRTC's messages.
    """
    found = _AT_LINE.search(log)
    lines = source.split("\n")
    where = ""
    if found and 0 < int(found.group(1)) <= len(lines):
        number = int(found.group(1))
        where = f" in line {number} of its source:\n    {lines[number - 1].strip()}"
    return f"NVRTC cannot compile kernel {name}{where}\n{log[:2000].rstrip()}"


class Loaded:
    """The functions of a source, one a device, compiled when first launched there."""

    __slots__ = ("_functions", "name", "options", "source")

    def __init__(self, source: str, name: str, options: Sequence[str]) -> None:
        self.source = source
        self.name = name
        self.options = tuple(options)
        self._functions: dict[int, tuple[Any, Any]] = {}

    def __call__(self, grid: Dims, block: Dims, args: Sequence[Any], shared_mem: int) -> None:
        """Launch on the current device and stream."""
        cupy = _cupy()
        index = cupy.cuda.runtime.getDevice()
        found = self._functions.get(index)
        if found is None:
            arch = cupy.cuda.Device(index).compute_capability
            module = cupy.cuda.function.Module()
            module.load(compiled(self.source, self.name, self.options, arch))
            # The module is kept: its functions are gone without it.
            found = self._functions[index] = module.get_function(self.name), module
        if shared_mem > _PLAIN_SHARED:
            driver = cupy.cuda.driver
            limit = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(found[0].ptr, limit, shared_mem)
        found[0](grid, block, tuple(args), shared_mem=shared_mem)


Launch = tuple[Any, Dims, Dims, list[Any], int]  # what `launch` takes


class _Foreign:
    """A stream that is not CuPy's, by the CUDA stream protocol."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


def on_stream(stream: int) -> Any:
    """Makes a stream, given by its address, CuPy's current one."""
    cuda = _cupy().cuda
    return cuda.Stream.from_external(_Foreign(stream)) if stream else cuda.Stream.null


def launch(
    function: Any, grid: Dims, block: Dims, args: Sequence[Any], shared_mem: int
) -> None:  # fmt: skip
    """Launch a kernel, of this module or of CuPy, unless there is nothing to do.

    Args:
        function: A `Loaded`, or a ``cupy.RawKernel``.
        grid: Blocks.
        block: Threads in a block.
        args: Arrays of CuPy and NumPy scalars.
        shared_mem: Bytes of dynamic shared memory.
    """
    if 0 not in grid:
        function(grid, block, tuple(args), shared_mem=shared_mem)
