"""Reading and writing the elements of all lanes, wherever they lie.

Lanes that do not follow each other in memory are read and written one at a time: on most
processors that takes a fraction of the time of their gather and scatter instructions, which are
left to the few vectors under a mask.
"""

import functools
from typing import NamedTuple

from fgrad.backends.cpu.ops import narrow_bfloat16, narrow_float16, scalar_of, widen_bfloat16
from fgrad.backends.cpu.text import Builder, mangle
from fgrad.compile.kernel import COMPUTED, DType
from fgrad.core.errors import CompilationError

TOGETHER, REVERSED, STEPPED = "together", "reversed", "stepped"
PICKED, APART = "picked", "apart"


class Address(NamedTuple):
    """Where the lanes lie.

    Attributes:
        pointer: The address of the first lane; PICKED, of position 0; APART, that of each lane.
        form: TOGETHER one after the other, REVERSED in falling order, STEPPED at a distance,
            PICKED at positions, APART anywhere.
        stride: STEPPED, the elements from one lane to the next, an i64; PICKED, the position of
            each lane, a vector of integers.
    """

    pointer: str
    form: str = TOGETHER
    stride: str = ""


@functools.cache
def stored_scalar(dtype: DType) -> str:
    """The LLVM type of an element in memory."""
    if dtype.name in ("float16", "bfloat16", "bool"):
        return {"float16": "half", "bfloat16": "i16", "bool": "i8"}[dtype.name]
    if dtype not in COMPUTED:
        raise CompilationError(f"CPU code for {dtype.name} in memory: there is none")
    return scalar_of(dtype)


def load(b: Builder, dtype: DType, address: Address, mask: str | None = None) -> str:
    """The elements of all lanes, in the type computed in; 0 in lanes outside of the mask."""
    scalar = stored_scalar(dtype)
    raw = _read(b, scalar, dtype.itemsize, address, mask)
    if scalar == "i8" and dtype.kind == "b":
        return b.icmp("ne", raw, 0)
    if scalar == "i16" and dtype.kind not in "iu":
        return widen_bfloat16(b, raw)
    return b.cast("fpext", raw, "float") if scalar == "half" else raw


def store(
    b: Builder,
    dtype: DType,
    address: Address,
    value: str,
    mask: str | None = None,
    *,
    stream: bool = False,
) -> None:
    """Write the elements of all lanes, or of those within the mask.

    With `stream`, a vector goes past the caches; it must lie at a multiple of its `alignment`.
    """
    scalar = stored_scalar(dtype)
    if scalar == "i8" and dtype.kind == "b":
        value = b.cast("zext", value, "i8")
    elif scalar == "i16" and dtype.kind not in "iu":
        value = narrow_bfloat16(b, value)
    elif scalar == "half":
        value = narrow_float16(b, value)
    if stream and mask is None and address.form == TOGETHER:
        b.globals["!0"] = "!0 = !{i32 1}"
        kind, align = b.type_of(value), alignment(b, dtype)
        b.effect(f"store {kind} {value}, ptr {address.pointer}, align {align}, !nontemporal !0")
        return
    _write(b, scalar, dtype.itemsize, address, value, mask)


def prefetch(b: Builder, pointer: str) -> None:
    """Bring the line at an address into the caches, which may be no memory at all."""
    b.globals["@llvm.prefetch.p0"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    b.effect(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")


def alignment(b: Builder, dtype: DType) -> int:
    """The alignment, in bytes, that a vector needs to go past the caches; 0 where none can."""
    size = b.width * dtype.itemsize
    return min(64, size) if size >= 16 else 0


def _read(b: Builder, scalar: str, size: int, address: Address, mask: str | None) -> str:
    kind, flags, pointer = b.vector(scalar), b.vector("i1"), address.pointer
    if b.width == 1:
        return b.emit(f"load {scalar}, ptr {pointer}, align {size}", scalar)
    if address.form == REVERSED:
        pointer, mask = _first(b, scalar, pointer), mask and _reverse(b, mask)
    if address.form in (TOGETHER, REVERSED):
        if mask is None:
            raw = b.emit(f"load {kind}, ptr {pointer}, align {size}", scalar)
        else:
            raw = b.invoke(
                f"masked.load.{mangle(scalar, b.width)}.p0", scalar, b.width,
                ["ptr", "i32", flags, kind], [pointer, str(size), mask, "zeroinitializer"],
            )  # fmt: skip
        return _reverse(b, raw) if address.form == REVERSED else raw
    if mask is None:
        raw = "poison"
        for k, p in enumerate(_each(b, scalar, address)):
            one = b.emit(f"load {scalar}, ptr {p}, align {size}", scalar, 1)
            raw = b.emit(f"insertelement {kind} {raw}, {scalar} {one}, i64 {k}", scalar)
        return raw
    return b.invoke(
        f"masked.gather.{mangle(scalar, b.width)}.v{b.width}p0", scalar, b.width,
        [b.vector("ptr"), "i32", flags, kind],
        [_all(b, scalar, address), str(size), mask, "zeroinitializer"],
    )  # fmt: skip


def _write(
    b: Builder, scalar: str, size: int, address: Address, value: str, mask: str | None
) -> None:
    kind, flags, pointer = b.vector(scalar), b.vector("i1"), address.pointer
    if b.width == 1:
        b.effect(f"store {scalar} {value}, ptr {pointer}, align {size}")
        return
    if address.form == REVERSED:
        pointer, mask = _first(b, scalar, pointer), mask and _reverse(b, mask)
        value = _reverse(b, value)
    if address.form in (TOGETHER, REVERSED):
        if mask is None:
            b.effect(f"store {kind} {value}, ptr {pointer}, align {size}")
        else:
            b.invoke(
                f"masked.store.{mangle(scalar, b.width)}.p0", "void", 1,
                [kind, "ptr", "i32", flags], [value, pointer, str(size), mask],
            )  # fmt: skip
    elif mask is None:
        for k, p in enumerate(_each(b, scalar, address)):
            one = b.emit(f"extractelement {kind} {value}, i64 {k}", scalar, 1)
            b.effect(f"store {scalar} {one}, ptr {p}, align {size}")
    else:
        b.invoke(
            f"masked.scatter.{mangle(scalar, b.width)}.v{b.width}p0", "void", 1,
            [kind, b.vector("ptr"), "i32", flags],
            [value, _all(b, scalar, address), str(size), mask],
        )  # fmt: skip


def _first(b: Builder, scalar: str, pointer: str) -> str:
    """The lowest address of lanes in falling order."""
    return b.offset(pointer, 1 - b.width, scalar)


def _reverse(b: Builder, x: str) -> str:
    scalar, kind = b.scalar(x), b.type_of(x)
    picks = ", ".join(f"i32 {k}" for k in reversed(range(b.width)))
    text = f"shufflevector {kind} {x}, {kind} poison, {b.vector('i32')} <{picks}>"
    return b.emit(text, scalar)


def _each(b: Builder, scalar: str, address: Address) -> list[str]:
    """The address of each lane, by itself."""
    if address.form == STEPPED:
        found = [address.pointer]
        while len(found) < b.width:
            found.append(b.offset(found[-1], address.stride, scalar))
        return found
    if address.form == PICKED:
        found = []
        kind, integer = b.type_of(address.stride), b.scalar(address.stride)
        for k in range(b.width):
            at = b.emit(f"extractelement {kind} {address.stride}, i64 {k}", integer, 1)
            found.append(b.offset(address.pointer, b.resize(at, "i64", True), scalar))
        return found
    kind = b.vector("ptr")
    return [
        b.emit(f"extractelement {kind} {address.pointer}, i64 {k}", "ptr", 1)
        for k in range(b.width)
    ]


def _all(b: Builder, scalar: str, address: Address) -> str:
    """The addresses of all lanes, as a vector."""
    if address.form == APART:
        return address.pointer
    if address.form == PICKED:
        return b.offset(address.pointer, b.resize(address.stride, "i64", True), scalar)
    steps = b.binary("mul", b.splat(address.stride), b.iota("i64"))
    return b.offset(address.pointer, steps, scalar)
