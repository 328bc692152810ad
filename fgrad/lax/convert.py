"""Casts: other dtypes, other readings of the same bits, less precision, no derivative."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import convert_element_type_p
from fgrad.core.errors import DtypeError, ShapeError, StaticArgumentError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    ANY,
    FLOATS,
    Absent,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.core.trees import tree_map
from fgrad.lax.arithmetic import add, mul, sub
from fgrad.lax.bits import shift_left, shift_right_logical
from fgrad.lax.compare import ge, lt
from fgrad.lax.creation import iota
from fgrad.lax.kinds import constant, structural
from fgrad.lax.slicing import slice_in_dim

__all__ = [
    "bitcast_convert_type",
    "bitcast_convert_type_p",
    "convert_element_type",
    "convert_element_type_p",
    "reduce_precision",
    "reduce_precision_p",
    "stop_gradient",
    "stop_gradient_p",
]


def convert_element_type(x: Any, new_dtype: Any) -> Value:
    """``x`` in another dtype.

    Complex to real keeps the real part. Float to integer truncates, clamps to the integer's range,
    and makes NaN 0.

    Args:
        x: ``[...]``, any dtype.
        new_dtype: A dtype. The Python types int, float and complex mean the default dtypes.

    Returns:
        Same shape, in `new_dtype`, not weak.

    Example:
        >>> convert_element_type(np.array([1.7, -1.7]), np.int32)
        Array([ 1, -1], dtype=int32)
    """
    return basis.convert_element_type(as_value(x), dtypes.dtype(new_dtype))


stop_gradient_p: Primitive = constant(
    "stop_gradient",
    doc="x itself, without its derivative.",
    reason="that is what it is for",
    abstract=lambda x: x,
    eager=lambda _xp, x: x,
    batch=lambda axis, args, dims: basis.batch_pointwise(stop_gradient_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "x"),
    spec=Spec(
        dtypes=ANY,
        reference=np.asarray,
        ulps=0.0,
        order=0,
    ),
)


def stop_gradient(x: Any) -> Any:
    """``x`` itself, of which every transform takes the derivative to be zero.

    Args:
        x: A value of any dtype, or a pytree of them.

    Returns:
        The same tree with values equal to those of `x`.

    Example:
        >>> stop_gradient(np.array([1.0, 2.0]))
        Array([1., 2.], dtype=float64)
    """
    return tree_map(lambda leaf: bind(stop_gradient_p, as_value(leaf)), x)


# ----------------------------------------------------------------------- reduce_precision

_REDUCIBLE = tuple(map(np.dtype, (np.float64, np.float32, np.float16, dtypes.bfloat16)))


def _reduce_abstract(x: ShapedArray, *, exponent_bits: int, mantissa_bits: int) -> ShapedArray:
    if x.dtype not in _REDUCIBLE:
        raise DtypeError(
            f"reduce_precision takes float64, float32, float16 or bfloat16 arrays, got {x}"
        )
    if exponent_bits < 1 or mantissa_bits < 0:
        raise StaticArgumentError(
            f"reduce_precision needs exponent_bits of at least 1 and mantissa_bits of at least 0, "
            f"got {exponent_bits} and {mantissa_bits}"
        )
    return x


def _reduce_eager(xp: Any, x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    if x.dtype not in _REDUCIBLE or exponent_bits < 1 or mantissa_bits < 0:
        raise ValueError("operand or bits")  # the abstract rule says it in full
    info = dtypes.finfo(x.dtype)
    word: Any = np.dtype(f"u{x.dtype.itemsize}").type
    bits = x.view(word)
    exponents = ((1 << info.nexp) - 1) << info.nmant
    dropped = info.nmant - mantissa_bits
    if dropped > 0:
        # To nearest, ties to even: half of the last kept bit, less one unless that bit is set.
        last = (bits >> word(dropped)) & word(1)
        bits = bits + last + word((1 << (dropped - 1)) - 1)
        bits = bits & ~word((1 << dropped) - 1)
    if exponent_bits < info.nexp:
        bias, narrow = (1 << (info.nexp - 1)) - 1, (1 << (exponent_bits - 1)) - 1
        exponent = bits & word(exponents)
        signs = bits & word(1 << (8 * x.dtype.itemsize - 1))
        over = exponent > word((bias + narrow) << info.nmant)
        under = exponent <= word((bias - narrow) << info.nmant)
        bits = xp.where(over, signs | word(exponents), xp.where(under, signs, bits))
    return xp.where(x != x, x, bits.view(x.dtype))


def _reduce_transpose(ct: Value, _x: Unknown, **bits: int) -> tuple[Value]:
    return (reduce_precision(ct, **bits),)


def _reduce_scalar(avals: Sequence[ShapedArray], params: dict[str, Any]) -> Any:
    info = dtypes.finfo(avals[0].dtype)
    if params["exponent_bits"] >= info.nexp and params["mantissa_bits"] >= info.nmant:
        return "x"
    return Absent("kernels round to whole dtypes only")


_FULL = {"exponent_bits": 11, "mantissa_bits": 52}

reduce_precision_p: Primitive = structural(
    "reduce_precision",
    doc="x rounded to fewer exponent and mantissa bits, in its own dtype.",
    abstract=_reduce_abstract,
    eager=_reduce_eager,
    transpose=_reduce_transpose,
    batch=lambda axis, args, dims, **bits: basis.batch_pointwise(
        reduce_precision_p, axis, args, dims, bits
    ),
    lower=Lowering("pointwise", _reduce_scalar),
    # Linear only up to the rounding: with all bits kept it is the identity, which the laws test.
    spec=Spec(
        cases=(Case("...", _FULL, name="all_bits"),),
        dtypes=FLOATS,
        reference=lambda x, **_bits: x,
        ulps=0.0,
        invalid=(
            Invalid(("i32[2]",), DtypeError, "takes", **_FULL),
            Invalid(
                ("f32[2]",), StaticArgumentError, "at least 1", exponent_bits=0, mantissa_bits=3
            ),
        ),
    ),
)


def reduce_precision(operand: Any, exponent_bits: int, mantissa_bits: int) -> Value:
    """``operand`` rounded to fewer exponent and mantissa bits, in its own dtype.

    Values beyond the narrower range become infinite, those below it 0; ties go to the even
    neighbour. Tangents and cotangents are rounded likewise.

    Args:
        operand: ``[...]``, float64, float32, float16 or bfloat16.
        exponent_bits: Bits of the exponent to keep, at least 1.
        mantissa_bits: Bits of the mantissa to keep, at least 0.

    Example:
        >>> reduce_precision(np.array([1.01, 3.0]), exponent_bits=8, mantissa_bits=7)
        Array([1.0078125, 3.       ], dtype=float64)
    """
    return bind(
        reduce_precision_p,
        as_value(operand),
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
    )


# ---------------------------------------------------------------------------------- bitcast


def _bitcast_abstract(x: ShapedArray, *, new_dtype: np.dtype[Any]) -> ShapedArray:
    for name, dtype in (("operand", x.dtype), ("new_dtype", new_dtype)):
        if dtype.kind in "bc" or basis.is_zero_dtype(dtype):
            raise DtypeError(
                f"bitcast_convert_type takes float and integer dtypes, got {name} {dtype}"
            )
    old, new = x.dtype.itemsize, new_dtype.itemsize
    if old == new:
        return ShapedArray(x.shape, new_dtype)
    if old > new:
        return ShapedArray((*x.shape, old // new), new_dtype)
    if not x.shape or x.shape[-1] != new // old:
        raise ShapeError(
            f"bitcast_convert_type: {new // old} elements of {x.dtype} make one of {new_dtype}, so "
            f"the last axis of the operand must have that length, got {x}"
        )
    return ShapedArray(x.shape[:-1], new_dtype)


def _bitcast_eager(xp: Any, x: Any, *, new_dtype: np.dtype[Any]) -> Any:
    if x.dtype.kind in "bc" or new_dtype.kind in "bc":
        raise ValueError("dtypes")  # the abstract rule says it in full
    old, new = x.dtype.itemsize, new_dtype.itemsize
    if old == new:
        return x.view(new_dtype)
    if old > new:
        return xp.ascontiguousarray(x)[..., None].view(new_dtype).reshape(*x.shape, old // new)
    if not x.shape or x.shape[-1] != new // old:
        raise ValueError("shape")
    return xp.ascontiguousarray(x).view(new_dtype)[..., 0]


def _bitcast_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[Value, int]:
    # In front, the mapped axis is never the one that the cast makes or removes.
    d = dims[0]
    assert d is not None
    return bind(bitcast_convert_type_p, basis.moveaxis(args[0], d, 0), **params), 0


def _bitcast_reference(x: Any, *, new_dtype: np.dtype[Any]) -> Any:
    """Of float32 values, which the suite hands over in double precision."""
    words = b"".join(np.float32(v).tobytes() for v in x.flat)
    width = new_dtype.itemsize
    shape = x.shape if width == 4 else (*x.shape, 4 // width) if width < 4 else x.shape[:-1]
    return np.frombuffer(words, new_dtype).reshape(shape)


def _bitcast_scalar(avals: Sequence[ShapedArray], params: dict[str, Any]) -> Any:
    old, new = avals[0].dtype, params["new_dtype"]
    if old.itemsize != new.itemsize:
        return Absent("an element becomes several, or several one")
    if (old.itemsize < 4 and "V" in (old.kind, new.kind)) or np.float16 in (old, new):
        return Absent("kernels hold 16-bit floats as float32, whose bits are others")
    return "bitcast(x)"


def _word(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


_WORD32 = np.dtype(np.uint32)
_NAN16 = 0x7C00  # the exponent of infinities and NaNs of float16


def _bits_of(x: Value) -> Value:
    """The bits of each element as an unsigned integer; 16-bit floats are given as float32."""
    if x.dtype == np.float16:
        wide = bitcast_convert_type(basis.convert_element_type(x, np.dtype(np.float32)), _WORD32)
        sign = shift_right_logical(wide, np.uint32(16)) & np.uint32(0x8000)
        size = wide & np.uint32(0x7FFFFFFF)
        small = basis.convert_element_type(
            mul(bitcast_convert_type(size, np.float32), np.float32(2.0**24)), _WORD32
        )
        high = shift_right_logical(size, np.uint32(13))
        normal = sub(high, np.uint32(112 << 10))
        special = (high & np.uint32(0x3FF)) | np.uint32(_NAN16)
        bits = basis.select_n(lt(size, np.uint32(113 << 23)), normal, small)
        bits = basis.select_n(ge(size, np.uint32(255 << 23)), bits, special)
        return basis.convert_element_type(sign | bits, np.dtype(np.uint16))
    if x.dtype == dtypes.bfloat16:
        wide = bitcast_convert_type(basis.convert_element_type(x, np.dtype(np.float32)), _WORD32)
        high = shift_right_logical(wide, np.uint32(16))
        return basis.convert_element_type(high, np.dtype(np.uint16))
    return bitcast_convert_type(x, _word(x.dtype))


def _of_bits(bits: Value, dtype: np.dtype[Any]) -> Value:
    """The reverse."""
    if dtype == np.float16:
        wide = basis.convert_element_type(bits, _WORD32)
        size = wide & np.uint32(0x7FFF)
        small = mul(basis.convert_element_type(size, np.dtype(np.float32)), np.float32(2.0**-24))
        moved = shift_left(size, np.uint32(13))
        normal = add(moved, np.uint32(112 << 23))
        special = moved | np.uint32(255 << 23)
        out = basis.select_n(lt(size, np.uint32(1 << 10)), normal, _bits_of(small))
        out = basis.select_n(ge(size, np.uint32(_NAN16)), out, special)
        sign = shift_left(wide & np.uint32(0x8000), np.uint32(16))
        return basis.convert_element_type(bitcast_convert_type(out | sign, np.float32), dtype)
    if dtype == dtypes.bfloat16:
        wide = shift_left(basis.convert_element_type(bits, _WORD32), np.uint32(16))
        return basis.convert_element_type(bitcast_convert_type(wide, np.float32), dtype)
    return bitcast_convert_type(bits, dtype)


def _bitcast_composed(x: Value, *, new_dtype: np.dtype[Any]) -> Value:
    """Words taken apart or put together by shifts; the low bits come first."""
    word, part = _word(new_dtype), 8 * min(x.dtype.itemsize, new_dtype.itemsize)
    bits = _bits_of(x)
    if word.itemsize < bits.dtype.itemsize:
        count = bits.dtype.itemsize // word.itemsize
        by = mul(iota(bits.dtype, count), bits.dtype.type(part))
        columns = basis.reshape(bits, (*bits.shape, 1))
        bits = basis.convert_element_type(shift_right_logical(columns, by), word)
    elif word.itemsize > bits.dtype.itemsize:
        axis, whole = bits.ndim - 1, None
        for k in range(bits.shape[-1]):
            column = basis.reshape(slice_in_dim(bits, k, k + 1, 1, axis), bits.shape[:-1])
            wide = shift_left(basis.convert_element_type(column, word), word.type(k * part))
            whole = wide if whole is None else whole | wide
        bits = whole
    return _of_bits(bits, new_dtype)


bitcast_convert_type_p = constant(
    "bitcast_convert_type",
    doc="The same bits read as another dtype.",
    reason="bits have no derivative",
    abstract=_bitcast_abstract,
    eager=_bitcast_eager,
    batch=_bitcast_batch,
    lower=Lowering("pointwise", _bitcast_scalar, _bitcast_composed),
    spec=Spec(
        Operand(dtype="float32"),
        (
            Case("...", {"new_dtype": np.dtype(np.int32)}, name="same_width"),
            Case("m n", {"new_dtype": np.dtype(np.uint8)}, name="narrower"),
            Case("m 2", {"new_dtype": np.dtype(np.uint64)}, name="wider"),
        ),
        dtypes=("float32",),
        reference=_bitcast_reference,
        ulps=0.0,
        order=0,
        invalid=(
            Invalid(("b[2]",), DtypeError, "float and integer", new_dtype=np.dtype(np.uint8)),
            Invalid(("f32[3]",), ShapeError, "last axis", new_dtype=np.dtype(np.float64)),
        ),
    ),
)


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Value:
    """The bits of ``operand`` read as another dtype; no derivative.

    Args:
        operand: ``[...]``, float or integer.
        new_dtype: A float or integer dtype. Where it is narrower, an axis with the parts of each
            element is added at the end; where it is wider, the last axis holds them.

    Raises:
        ShapeError: The last axis does not hold the parts of one element.

    Example:
        >>> bitcast_convert_type(np.float32(1.0), np.int32)
        Array(1065353216, dtype=int32)
    """
    return bind(bitcast_convert_type_p, as_value(operand), new_dtype=dtypes.dtype(new_dtype))
