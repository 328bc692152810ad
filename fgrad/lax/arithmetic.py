"""Arithmetic, element by element: sums, products, quotients, remainders, signs."""

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import neg, neg_p
from fgrad.core.errors import DtypeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    FLOATS,
    INEXACT,
    NUMERIC,
    OUT,
    REAL,
    Absent,
    Invalid,
    Lowering,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax import kinds
from fgrad.lax.compare import eq
from fgrad.lax.complex import conj, real
from fgrad.lax.kinds import pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec
from fgrad.lax.rounding import RoundingMethod, round

__all__ = [
    "abs",
    "abs_p",
    "add",
    "add_p",
    "div",
    "div_p",
    "mul",
    "mul_p",
    "neg",
    "neg_p",
    "operands",
    "rem",
    "rem_p",
    "sign",
    "sign_p",
    "sub",
    "sub_p",
]

_APART = Operand(0.3, 3.0, generator="nonzero")  # a divisor

# --------------------------------------------------------------------------- sum, product


def _add_simplify(args: Any, _params: Any) -> Value | None:
    # -0.0 changes nothing; 0.0 would make 0.0 of -0.0.
    x, y = args
    return x if basis.is_neutral(y, -0.0, x) else y if basis.is_neutral(x, -0.0, y) else None


add_p = pointwise(
    "add",
    "x y",
    commutative=True,
    doc="x + y.",
    eager=lambda _xp, x, y: x + y,
    derivs=(1, 1),
    scalar="x + y",
    accepts=kinds.NUMERIC,
    linear="jointly",
    simplify=_add_simplify,
    spec=pair_spec(np.add, dtypes=NUMERIC, ulps=0.5),
)

sub_p = pointwise(
    "sub",
    "x y",
    doc="x - y.",
    eager=lambda _xp, x, y: x - y,
    derivs=(1, -1),
    scalar="x - y",
    accepts=kinds.NUMERIC,
    linear="jointly",
    simplify=lambda args, _params: args[0] if basis.is_neutral(args[1], 0.0, args[0]) else None,
    spec=pair_spec(np.subtract, dtypes=NUMERIC, ulps=0.5),
)


def _one(x: Value, y: Value) -> bool:
    """Whether x is the scalar 1 and leaves the type of y as it is."""
    return x.ndim == 0 and basis.literal(x) == 1 and (x.weak_type or not y.weak_type)


def _mul_simplify(args: Any, _params: Any) -> Value | None:
    x, y = args
    return x if _one(y, x) else y if _one(x, y) else None


mul_p = pointwise(
    "mul",
    "x y",
    commutative=True,
    doc="x · y.",
    eager=lambda _xp, x, y: x * y,
    derivs=(lambda y: y, lambda x: x),
    scalar="x * y",
    accepts=kinds.NUMERIC,
    linear="each",
    simplify=_mul_simplify,
    spec=pair_spec(np.multiply, dtypes=NUMERIC, ulps=2.0),
)


def add(x: Any, y: Any) -> Value:
    """The sum ``x + y``, element by element; operands of one dtype broadcast.

    Example:
        >>> add(1.5, np.float32(2.0))
        Array(3.5, dtype=float32)
    """
    return bind(add_p, *operands(x, y))


def sub(x: Any, y: Any) -> Value:
    """The difference ``x - y``, element by element; operands of one dtype broadcast.

    Example:
        >>> sub(1.5, np.float32(2.0))
        Array(-0.5, dtype=float32)
    """
    return bind(sub_p, *operands(x, y))


def mul(x: Any, y: Any) -> Value:
    """The product ``x · y``, element by element; operands of one dtype broadcast.

    Example:
        >>> mul(1.5, np.float32(2.0))
        Array(3., dtype=float32)
    """
    return bind(mul_p, *operands(x, y))


# --------------------------------------------------------------------- quotient, remainder


def _div_eager(xp: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind in "iu":
        return _truncated(xp, x, y)
    return x / y


def _truncated(xp: Any, x: Any, y: Any) -> Any:
    """The integer quotient towards zero; all bits set where y is 0, as the compiled code has it."""
    out = x // y
    if x.dtype.kind == "i":
        # Floor division is one too low where the signs differ and something remains.
        out = out + ((x - out * y != 0) & ((x < 0) != (y < 0))).astype(x.dtype)
    return xp.where(y == 0, ~xp.zeros((), x.dtype), out)


def _div_reference(x: Any, y: Any) -> Any:
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


def _div_simplify(args: Any, _params: Any) -> Value | None:
    x, y = args
    if _one(y, x):
        return x
    # One number is divided as fast by any: the code of a mean must not depend on their count.
    if y.ndim or not x.ndim or not dtypes.is_float(x.dtype) or not basis.is_compiling(x):
        return None
    number = basis.literal(y)
    if not number or not math.isfinite(number) or builtins.abs(math.frexp(number)[0]) != 0.5:
        return None
    # By a power of two: the product with its inverse is the same number, rounded once.
    info = dtypes.finfo(x.dtype)
    normal = float(info.smallest_normal) <= builtins.abs(1 / number) <= float(info.max)
    fits = normal and not (x.weak_type and y.weak_type)
    return mul(x, basis.scalar(1 / number, x.dtype)) if fits else None


div_p = pointwise(
    "div",
    "x y",
    doc="x / y; integers truncate towards zero.",
    eager=_div_eager,
    derivs=(lambda y: div(1, y), lambda out, y: neg(div(out, y))),
    scalar="x / y",
    accepts=kinds.NUMERIC,
    linear="each",
    linear_in=(0,),
    simplify=_div_simplify,
    spec=pair_spec(_div_reference, Operand(), _APART, dtypes=NUMERIC, ulps=4.0),
)


def div(x: Any, y: Any) -> Value:
    """The quotient ``x / y``, element by element; operands of one dtype broadcast.

    Integers truncate towards zero; an integer over 0 has all bits set (-1 where signed).

    Example:
        >>> div(np.array([-7, 7]), np.array([2, 2]))
        Array([-3,  3], dtype=int64)
    """
    return bind(div_p, *operands(x, y))


def _rem_eager(xp: Any, x: Any, y: Any) -> Any:
    out = xp.fmod(x, y)
    return xp.where(y == 0, x, out) if x.dtype.kind in "iu" else out


rem_p = pointwise(
    "rem",
    "x y",
    doc="The remainder of x / y truncated; it has the sign of x.",
    eager=_rem_eager,
    # x - out is a multiple of y up to rounding, so rounding the quotient restores the integer.
    derivs=(1, lambda out, x, y: neg(round(div(sub(x, out), y), RoundingMethod.TO_NEAREST_EVEN))),
    scalar="x % y",
    accepts=kinds.FLOAT + kinds.INTEGER,
    spec=pair_spec(np.fmod, Operand(0.2, 0.8), Operand(1.0, 2.0), dtypes=FLOATS, ulps=0.0),
)


def rem(x: Any, y: Any) -> Value:
    """The remainder ``x - trunc(x / y)·y``, of the sign of ``x``; operands broadcast.

    An integer modulo 0 is the integer itself.

    Example:
        >>> rem(np.array([-7.5, 7.5]), 2.0)
        Array([-1.5,  1.5], dtype=float64)
    """
    return bind(rem_p, *operands(x, y))


# ----------------------------------------------------------------------------- sign, abs


def _sign_eager(xp: Any, x: Any) -> Any:
    out = xp.sign(x)
    # NumPy drops the sign of -0.0.
    return xp.copysign(out, x) if x.dtype.kind == "f" else out


def _sign_scalar(avals: Sequence[ShapedArray], _params: dict[str, Any]) -> str:
    return "copysign(sign(x), x)" if dtypes.is_float(avals[0].dtype) else "sign(x)"


sign_p: Primitive = pointwise(
    "sign",
    "x",
    doc="-1, 0 or 1 as x is negative, zero or positive; zeros keep their sign.",
    eager=_sign_eager,
    derivs=(None,),
    scalar=_sign_scalar,
    accepts=kinds.FLOAT + kinds.INTEGER,
    simplify=basis.idempotent(lambda: sign_p),
    spec=unary_spec(np.sign, kinks=(0.0,), dtypes=REAL, ulps=0.0, wrong="b[2]"),
)


def sign(x: Any) -> Value:
    """The sign of each element: -1, 0 or 1; for complex ``x`` it is ``x / |x|``, and 0 at 0.

    Args:
        x: ``[...]``, integer, float or complex.

    Returns:
        Same shape and dtype.

    Example:
        >>> sign(np.array([-2.5, 0.0, 3.0]))
        Array([-1.,  0.,  1.], dtype=float64)
    """
    x = as_value(x)
    if x.dtype.kind != "c":
        return bind(sign_p, x)
    return div(x, basis.convert_element_type(_nonzero(abs(x)), x.dtype))


def _nonzero(x: Value) -> Value:
    """`x` with 1 in place of 0, to divide by."""
    return basis.select_n(eq(x, 0), x, basis.scalar(1, x.dtype))


def _abs_abstract(x: ShapedArray) -> ShapedArray:
    kinds.check_kind("abs", x, "ifc")
    return ShapedArray(x.shape, dtypes.real_dtype(x.dtype), x.weak_type)


def _abs_eager(xp: Any, x: Any) -> Any:
    if x.dtype.kind in "bu":
        raise ValueError("dtype")  # the abstract rule says it in full
    return xp.absolute(x)


def _direction(x: Value, out: Value) -> Value:
    """What a complex tangent is multiplied by before its real part is taken: conj(x) / |x|."""
    return conj(div(x, basis.convert_element_type(_nonzero(out), x.dtype)))


def _abs_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    (x,), (t,) = primals, tangents
    out = bind(abs_p, x)
    if t is None:
        return out, None
    if x.dtype.kind == "c":
        return out, real(basis.linear_mul(t, _direction(x, out)))
    return out, basis.linear_mul(t, bind(sign_p, x))


def _abs_backward(
    _needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, _params: dict[str, Any]
) -> tuple[Value]:
    x, out = residuals
    if x.dtype.kind == "c":
        ct = basis.convert_element_type(ct, x.dtype)
        return (basis.linear_mul(ct, _direction(x, out)),)
    return (basis.linear_mul(ct, bind(sign_p, x)),)


def _abs_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    found = basis.made_by(args[0], neg_p)
    return basis.idempotent(lambda: abs_p)(args, params) if found is None else abs(found[0][0])


# In a complex operand the derivative is real-linear, not a factor, hence no `pointwise`.
abs_p: Primitive = Primitive(
    "abs",
    "|x|; real where x is complex. Its derivative is 0 at 0.",
    abstract=_abs_abstract,
    eager=_abs_eager,
    jvp=_abs_jvp,
    transpose=Absent("not linear"),
    vjp=Pullback(None, _abs_backward, lambda _needed: (0, OUT)),
    batch=lambda axis, args, dims: basis.batch_pointwise(abs_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "abs(x)"),
    simplify=_abs_simplify,
    spec=Spec(
        Operand(kinks=(0.0,)),
        dtypes=("int32", *INEXACT),
        reference=np.abs,
        ulps=2.0,
        invalid=(
            Invalid(("b[2]",), DtypeError, "takes"),
            Invalid(("u8[2]",), DtypeError, "takes"),
        ),
    ),
)


def abs(x: Any) -> Value:
    """The absolute value of each element; real where ``x`` is complex.

    Args:
        x: ``[...]``, signed integer, float or complex.

    Returns:
        Same shape; the dtype of `x`, or of its parts where complex.

    Derivatives:
        sign(x), and 0 at 0, real or complex. Complex: ``Re(conj(x)/|x| · tangent)``.

    Example:
        >>> abs(np.array([-2.5, 3.0]))
        Array([2.5, 3. ], dtype=float64)
    """
    return bind(abs_p, as_value(x))
