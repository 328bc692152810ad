"""CUDA C to machine code, by NVIDIA's compiler for run time; kept on disk.

Through CuPy's binding of NVRTC, which needs neither a GPU nor the CUDA toolkit. CuPy's own modules
would flush denormal numbers to zero; here nothing is approximated: no fused multiply-add that the
source does not write, divisions and square roots rounded correctly, denormal numbers kept.
"""

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from fgrad.backends.object_cache import ObjectCache, default_folder
from fgrad.core.errors import CompilationError

OPTIONS = (
    "-std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
    # Templates of signed and unsigned types compare with 0.
    "--diag-suppress=186",
)  # fmt: skip
_FORMAT = "1"  # of entries on disk
_KERNEL = re.compile(
    r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(", re.DOTALL
)
_AT_LINE = re.compile(r"^(\w+)\((\d+)\): (?:catastrophic )?error|at line (\d+) of \"?module", re.M)
_ENTRY = re.compile(r"[Ee]ntry function '(\w+)'")


def compile_source(
    source: str,
    arch: str,
    *,
    options: Sequence[str] = (),
    about: Mapping[str, str] = MappingProxyType({}),
    cache: ObjectCache | None = None,
) -> bytes:
    """The machine code of a module; compiled once for all processes.

    Args:
        source: CUDA C with everything that it needs, see `prelude.with_prelude`.
        arch: The compute capability, like ``"90"`` or ``"90a"``. If this NVRTC does not know it,
            the result is PTX for the latest one before, which the driver compiles.
        options: For the compiler, beside `OPTIONS`.
        about: What kernels compute, in words, by name; for messages.
        cache: Where results are kept. None: the user's cache.

    Returns:
        A cubin, or PTX with a zero behind; `cuModuleLoadData` takes both.

    Raises:
        CompilationError: NVRTC reports an error; the kernel is named. Or there is no CuPy.
    """
    nvrtc = _nvrtc()
    cache = _cache() if cache is None else cache
    target, form = _target(nvrtc, arch)
    flags = (f"--gpu-architecture={target}", *OPTIONS, *options)
    text = "\0".join((_FORMAT, repr(nvrtc.getVersion()), *flags, source))
    key = hashlib.sha256(text.encode()).hexdigest()
    code = cache.get(key)
    if code is None:
        code = _compiled(nvrtc, source, flags, form, about)
        cache.put(key, code)
    return code


def _nvrtc() -> Any:
    try:
        nvrtc = import_module("cupy.cuda").nvrtc
        nvrtc.getVersion()  # loads it
    except (ImportError, RuntimeError) as error:
        raise CompilationError(
            f"CUDA code needs CuPy with NVRTC, and one of them does not load: {error}; install "
            f"cupy-cuda12x or cupy-cuda13x with its extra 'ctk', whichever fits your driver"
        ) from error
    return nvrtc


@functools.cache
def _cache() -> ObjectCache:
    return ObjectCache(default_folder("cuda"))


def _target(nvrtc: Any, arch: str) -> tuple[str, str]:
    """The architecture to compile for, and the function that gives the result."""
    number = int(re.sub(r"\D", "", arch))
    known = nvrtc.getSupportedArchs()
    if number in known:
        return f"sm_{arch}", "getCUBIN"
    before = [a for a in known if a < number]
    if not before:
        raise CompilationError(
            f"CUDA code for compute capability {number / 10}: NVRTC "
            f"{'.'.join(map(str, nvrtc.getVersion()))} compiles for {known[0] / 10} and later"
        )
    return f"compute_{max(before)}", "getPTX"


def _compiled(
    nvrtc: Any, source: str, flags: tuple[str, ...], form: str, about: Mapping[str, str]
) -> bytes:
    program = nvrtc.createProgram(source, "prelude", [], [])
    try:
        try:
            nvrtc.compileProgram(program, flags)
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            raise CompilationError(_message(source, log or str(error), about)) from error
        code: bytes | str = getattr(nvrtc, form)(program)
    finally:
        nvrtc.destroyProgram(program)
    return code if isinstance(code, bytes) else code.encode() + b"\0"


def _message(source: str, log: str, about: Mapping[str, str]) -> str:
    """What went wrong, in which kernel."""
    name = _culprit(source, log)
    words = about.get(name or "")
    kernel = f"kernel {name}" if name else "a module"
    return f"NVRTC cannot compile {kernel}{f' ({words})' if words else ''}:\n{log[:2000].rstrip()}"


def _culprit(source: str, log: str) -> str | None:
    """The kernel that an error is in."""
    entry = _ENTRY.search(log)
    if entry:
        return entry.group(1)
    lines = source.partition('#line 1 "module"\n')[2].split("\n")
    for found in _AT_LINE.finditer(log):
        if found.group(1) not in (None, "module"):
            continue
        above = "\n".join(lines[: int(found.group(2) or found.group(3))])
        names = _KERNEL.findall(above)
        if names:
            return str(names[-1])
    return None
