"""Complex numbers and their parts, element by element.

Derivatives follow JAX's convention: a complex cotangent ``a + ib`` stands for the real-linear map
``x + iy -> ax - by``, so that transposing multiplies without conjugation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    COMPLEXES,
    TYPE,
    Case,
    Invalid,
    Lowering,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.kinds import check_kind, structural
from fgrad.lax.operands import operands

__all__ = [
    "complex",
    "complex_p",
    "conj",
    "conj_p",
    "imag",
    "imag_p",
    "real",
    "real_p",
]


def _part(
    name: str, doc: str, eager: Callable[..., Any], transpose: Callable[..., Any],
    *, real_result: bool, reference: Callable[..., Any],
) -> Primitive:  # fmt: skip
    """A real-linear function of one complex operand."""

    def abstract(x: ShapedArray) -> ShapedArray:
        check_kind(name, x, "c")
        dtype = dtypes.real_dtype(x.dtype) if real_result else x.dtype
        return ShapedArray(x.shape, dtype, x.weak_type)

    def checked(xp: Any, x: Any) -> Any:
        if x.dtype.kind != "c":
            raise ValueError("dtype")  # the abstract rule says it in full
        return eager(xp, x)

    prim: Primitive = structural(
        name,
        doc=doc,
        abstract=abstract,
        eager=checked,
        transpose=transpose,
        batch=lambda axis, args, dims: basis.batch_pointwise(prim, axis, args, dims, {}),
        lower=Lowering("complex", name),
        spec=Spec(
            dtypes=COMPLEXES,
            reference=reference,
            ulps=0.0,
            invalid=(Invalid(("f32[2]",), DtypeError, "complex"),),
        ),
    )
    return prim


def _imag_transpose(ct: Value, _x: Unknown) -> tuple[Value]:
    return (complex(basis.scalar(0, ct.dtype), basis.neg(ct)),)


real_p = _part(
    "real",
    "The real part.",
    lambda _xp, x: x.real,
    lambda ct, x: (basis.convert_element_type(ct, x.aval.dtype),),
    real_result=True,
    reference=np.real,
)

imag_p = _part(
    "imag",
    "The imaginary part.",
    lambda _xp, x: x.imag,
    _imag_transpose,
    real_result=True,
    reference=np.imag,
)

conj_p = _part(
    "conj",
    "The complex conjugate.",
    lambda xp, x: xp.conj(x),
    lambda ct, _x: (conj(ct),),
    real_result=False,
    reference=np.conj,
)


def real(x: Any) -> Value:
    """The real part of each element of ``x`` (``[...]``, complex).

    Example:
        >>> real(np.array([1 + 2j]))
        Array([1.], dtype=float64)
    """
    return bind(real_p, as_value(x))


def imag(x: Any) -> Value:
    """The imaginary part of each element of ``x`` (``[...]``, complex).

    Example:
        >>> imag(np.array([1 + 2j]))
        Array([2.], dtype=float64)
    """
    return bind(imag_p, as_value(x))


def conj(x: Any) -> Value:
    """The complex conjugate of each element of ``x`` (``[...]``, real or complex); complex.

    Example:
        >>> conj(np.array([1 + 2j]))
        Array([1.-2.j], dtype=complex128)
    """
    x = as_value(x)
    if x.dtype.kind != "c":
        return basis.convert_element_type(x, dtypes.to_complex(x.dtype))
    return bind(conj_p, x)


def _complex_abstract(x: ShapedArray, y: ShapedArray) -> ShapedArray:
    if x.dtype != y.dtype or x.dtype.num not in NATIVE["f"]:
        raise DtypeError(
            f"complex takes two float32 or two float64 arrays, got real part {x} and imaginary "
            f"part {y}; convert them with astype"
        )
    shape = basis.broadcast_shapes("complex", (x, y))
    return ShapedArray(shape, dtypes.to_complex(x.dtype), x.weak_type and y.weak_type)


def _complex_eager(xp: Any, x: Any, y: Any) -> Any:
    if x.dtype != y.dtype or x.dtype.num not in NATIVE["f"]:
        raise ValueError("dtypes")  # the abstract rule says it in full
    # x + 1j * y would turn infinite parts into NaN and lose the sign of zeros.
    out = xp.empty(np.broadcast_shapes(x.shape, y.shape), dtypes.to_complex(x.dtype))
    out.real = x
    out.imag = y
    return out


def _complex_parts(ct: Value) -> tuple[Value, Value]:
    return real(ct), basis.neg(imag(ct))


def _complex_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    out = bind(complex_p, *primals)
    if tangents[0] is None and tangents[1] is None:
        return out, None
    parts = [
        basis.scalar(0, p.dtype) if t is None else t
        for p, t in zip(primals, tangents, strict=True)
    ]  # fmt: skip
    return out, basis.broadcast_to(bind(complex_p, *parts), out.shape)


complex_p: Primitive = Primitive(
    "complex",
    "x + iy.",
    abstract=_complex_abstract,
    eager=_complex_eager,
    jvp=_complex_jvp,
    transpose=lambda ct, *args: tuple(
        basis.unbroadcast(part, a.aval.shape) if isinstance(a, Unknown) else None
        for part, a in zip(_complex_parts(ct), args, strict=True)
    ),
    vjp=Pullback(
        None,
        lambda needed, res, ct, _params: tuple(
            basis.unbroadcast(part, a.shape) if n else None
            for part, n, a in zip(_complex_parts(ct), needed, res, strict=True)
        ),
        lambda _needed: (TYPE(0), TYPE(1)),
    ),
    batch=lambda axis, args, dims: basis.batch_pointwise(complex_p, axis, args, dims, {}),
    lower=Lowering("complex", "complex", operands="x y"),
    linear="jointly",
    spec=Spec(
        Operand(),
        (Case("...,..."),),
        dtypes=("float64", "float32"),
        reference=lambda x, y: x + 1j * y,
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f64[2]"), DtypeError, "two float32"),
            Invalid(("f16[2]", "f16[2]"), DtypeError, "two float32"),
            Invalid(("f32[2]", "f32[3]"), ShapeError, "broadcast"),
        ),
    ),
)


def complex(x: Any, y: Any) -> Value:
    """The complex numbers ``x + iy``; operands of one dtype, float32 or float64, broadcast.

    Example:
        >>> complex(np.array([1.0, 2.0]), 3.0)
        Array([1.+3.j, 2.+3.j], dtype=complex128)
    """
    return bind(complex_p, *operands(x, y))
