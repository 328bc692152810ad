"""What a kernel's own text says: its parameters, and the text of the same kernel over a batch.

The text is read, not compiled: comments are blanked out, the definition of the kernel is found by
its name, and its parameters are split at commas. What cannot be read is not checked.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import dtypes
from fgrad.core.errors import RuleError

_TYPES: dict[str, Any] = {
    "float": np.float32, "double": np.float64, "half": np.float16, "__half": np.float16,
    "nv_bfloat16": dtypes.bfloat16, "__nv_bfloat16": dtypes.bfloat16, "bool": np.bool_,
    "char": np.int8, "signed char": np.int8, "unsigned char": np.uint8,
    "short": np.int16, "unsigned short": np.uint16,
    "int": np.int32, "signed": np.int32, "signed int": np.int32,
    "unsigned": np.uint32, "unsigned int": np.uint32,
    "long": np.int64, "long int": np.int64, "unsigned long": np.uint64,
    "long long": np.int64, "long long int": np.int64, "ptrdiff_t": np.int64,
    "unsigned long long": np.uint64, "unsigned long long int": np.uint64, "size_t": np.uint64,
    "cuFloatComplex": np.complex64, "cuDoubleComplex": np.complex128,
    "complex<float>": np.complex64, "complex<double>": np.complex128,
    "thrust::complex<float>": np.complex64, "thrust::complex<double>": np.complex128,
    **{f"{u}int{n}_t": np.dtype(f"{u}int{n}") for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
_QUALIFIERS = re.compile(r"\b(const|volatile|__restrict__|__restrict|__grid_constant__)\b")
_FIXED_POINTER = re.compile(r"\*\s*(?:__restrict__\s+|__restrict\s+)?const\b")
# Text that depends on how many blocks there are along z, or in all.
_NEEDS_Z = re.compile(r"\b(?:blockIdx|gridDim)\s*\.\s*z\b|\bthis_grid\b|\bgrid_group\b")


class Parameter(NamedTuple):
    """A parameter of a kernel.

    Attributes:
        name: Its name.
        type: Its type in C, less qualifiers and the star.
        dtype: That of an element; None where the type is not known here.
        pointer: Whether it is a pointer.
        fixed: Whether it is a pointer that the kernel cannot move.
    """

    name: str
    type: str
    dtype: np.dtype[Any] | None
    pointer: bool
    fixed: bool

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whether an element of `dtype` may be passed, as far as the type is known."""
        if self.dtype is None or self.dtype == dtype:
            return True
        raw = self.dtype.kind == "u" and self.dtype.itemsize == dtype.itemsize
        return raw and (dtype.kind == "b" or dtypes.is_float(dtype))  # their bits


class Signature(NamedTuple):
    """The parameters of a kernel, and where its definition lies in the text.

    Attributes:
        parameters: In order.
        closing: Where the parenthesis behind them stands.
        body: Where the body begins, behind its brace.
    """

    parameters: tuple[Parameter, ...]
    closing: int
    body: int


def signature_of(source: str, name: str) -> Signature:
    """The signature of a kernel in CUDA C.

    Raises:
        RuleError: There is no definition of that name.
    """
    text = _without_comments(source)
    for found in re.finditer(rf"\b{re.escape(name)}\s*\(", text):
        start = found.end()
        closing = _matching(text, start)
        before = re.split(r"[;{}]", text[: found.start()])[-1]
        behind = re.match(r"\s*\{", text[closing + 1 :])
        if "__global__" in before and behind is not None:
            parameters = tuple(map(_parameter, _split(text[start:closing])))
            return Signature(parameters, closing, closing + 1 + behind.end())
    kernels = re.findall(r"__global__[^;{}(]*?(\w+)\s*\(", text)
    there = f"; there is {', '.join(kernels)}" if kernels else ""
    raise RuleError(
        f"cuda_kernel: the source defines no __global__ function {name!r}{there}; pass the name of "
        f"the kernel in the source"
    )


def check_linkage(source: str, name: str, signature: Signature | None) -> None:
    """Raise `RuleError` unless the kernel keeps its name in machine code.

    What C++ makes of a name without ``extern "C"`` is not found when the kernel is loaded, and
    nobody says for which types a template is meant.
    """
    if signature is not None and not re.search(
        r"\bextern\b", _without_comments(source)[: signature.body]
    ):
        raise RuleError(
            f'cuda_kernel: the source does not declare {name} as extern "C"; write '
            f'extern "C" __global__ before it, and fill in what a template leaves open'
        )


def _without_comments(source: str) -> str:
    """The text with blanks for comments and strings, so that positions stay."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found.group())

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.DOTALL)


def _matching(text: str, start: int) -> int:
    """The position of the parenthesis that closes one opened before `start`."""
    depth = 1
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    return len(text)


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "(<[") - (c in ")>]")
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [p for p in map(str.strip, parts) if p not in ("", "void")]


def _parameter(text: str) -> Parameter:
    plain = _QUALIFIERS.sub(" ", text.partition("=")[0])
    found = re.search(r"(\w+)\s*(?:\[\w*\]\s*)*$", plain)
    name = found.group(1) if found else ""
    kind = plain[: found.start()] if found else plain
    pointer = "*" in kind or "[" in plain
    words = " ".join(kind.replace("*", " ").split())
    known = _TYPES.get(words) if kind.count("*") <= 1 else None
    fixed = bool(_FIXED_POINTER.search(text)) or words == "void" or kind.count("*") > 1
    return Parameter(name, words, None if known is None else np.dtype(known), pointer, fixed)


def obstacle_to_batches(source: str, signature: Signature) -> str | None:
    """Why a kernel cannot be given a dimension of the grid more; None where it can."""
    found = _NEEDS_Z.search(_without_comments(source))
    if found is not None:
        return f"the source uses {' '.join(found.group().split())}"
    fixed = [p.name for p in signature.parameters if p.pointer and p.fixed]
    return f"the pointer {fixed[0]} cannot be moved" if fixed else None


def over_batches(source: str, signature: Signature) -> str:
    """The text of the kernel for a batch: blocks along z are elements of it.

    Each pointer has one parameter more, the elements from one example to the next, and moves to
    the example of its block first; one more says where the batch begins. Lines stay where they are.
    """
    pointers = [p.name for p in signature.parameters if p.pointer]
    more = ["long long fgrad_first", *(f"long long fgrad_step_{p}" for p in pointers)]
    moves = [f"{p} += (fgrad_first + (long long)blockIdx.z) * fgrad_step_{p};" for p in pointers]
    head, middle = source[: signature.closing], source[signature.closing : signature.body]
    given = ", ".join(more) if not signature.parameters else ", " + ", ".join(more)
    return f"{head}{given}{middle} {' '.join(moves)}{source[signature.body :]}"
