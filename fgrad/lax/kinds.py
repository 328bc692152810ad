"""Kinds of primitive: each derives every rule that follows from the shape of the operation.

`pointwise`     out[i] = f(x[i], y[i], …), operands broadcasting by NumPy's rule
`structural`    linear in its one operand: views, sums, gathers; says its transpose
`constant`      no derivative at all: comparisons, argmax, iota, random bits
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import DtypeError, RuleError
from fgrad.core.primitive import (
    NOTHING,
    OUT,
    SHAPE,
    Absent,
    Lowering,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind

FLOAT = "f"
INEXACT = "fc"
NUMERIC = "iufc"
INTEGER = "iu"
BITS = "biu"
ANY = "biufc"

_WORDS = {"f": "float", "c": "complex", "i": "signed integer", "u": "unsigned integer", "b": "bool"}


def kind_of(dtype: np.dtype[Any]) -> str:
    """'b', 'i', 'u', 'f' or 'c'; the small floats of ml_dtypes are 'f'."""
    return "f" if dtypes.is_float(dtype) else dtype.kind


def check_kind(name: str, aval: ShapedArray, accepts: str) -> None:
    """Raise `DtypeError` unless the dtype is of an accepted kind."""
    if kind_of(aval.dtype) not in accepts:
        words = ", ".join(_WORDS[k] for k in accepts)
        raise DtypeError(
            f"{name} takes {words} arrays, got {aval}; convert it with astype, or use fgrad.numpy, "
            f"which promotes dtypes"
        )


class _Factor:
    """The derivative in one operand, as a factor of its tangent.

    1, -1, `Absent` (asking for it raises), or a function whose positional parameters name what it
    needs (operands, or ``out``) and whose keyword-only parameters name parameters of the primitive.
    """

    __slots__ = ("function", "keywords", "needs")

    def __init__(self, function: Any, operands: Sequence[str]) -> None:
        self.function = function
        self.needs: tuple[int, ...] = ()
        self.keywords: tuple[str, ...] = ()
        if callable(function):
            code = function.__code__
            names = code.co_varnames[: code.co_argcount]
            self.needs = tuple(OUT if n == "out" else operands.index(n) for n in names)
            end = code.co_argcount + code.co_kwonlyargcount
            self.keywords = code.co_varnames[code.co_argcount : end]

    def scale(self, t: Value, values: Sequence[Value], params: dict[str, Any]) -> Value:
        """The tangent or cotangent times this factor; `values` are out, then the operands."""
        function = self.function
        if not callable(function):
            if isinstance(function, Absent):
                raise RuleError(function.reason)
            return t if function == 1 else basis.neg(t)
        args = [values[i + 1] for i in self.needs]
        if self.keywords:
            return basis.linear_mul(t, function(*args, **{k: params[k] for k in self.keywords}))
        return basis.linear_mul(t, function(*args))


def pointwise(
    name: str,
    operands: str,
    *,
    doc: str,
    eager: Callable[..., Any],
    derivs: Sequence[Any] | Absent,
    scalar: Any,
    accepts: str = INEXACT,
    result: Callable[[np.dtype[Any]], np.dtype[Any]] | None = None,
    simplify: Callable[..., Any] | None = None,
    linear: str | None = None,
    linear_in: tuple[int, ...] | None = None,
    widen: bool = True,
    check: Callable[..., None] | None = None,
    decompose: Callable[..., Any] | None = None,
    commutative: bool = False,
    spec: Spec,
) -> Primitive:
    """Declare an operation that acts element by element.

    Args:
        name: The primitive's name.
        operands: Their names, split by spaces; derivatives refer to them.
        doc: What it computes, in one line.
        eager: ``(xp, *arrays, **params) -> array``; never sees 8- or 16-bit floats, which are
            computed in float32 and rounded once.
        derivs: For each operand the factor of its tangent: 1, -1, None (it is zero), `Absent`
            (asking for it raises `RuleError` with the reason), or a function of the operands and
            ``out`` that it names, and of parameters by keyword. The named ones are what reverse
            mode keeps.
        scalar: The scalar expression that compilers render, or a function that gives it; see
            `Lowering`.
        accepts: Kinds of dtype: letters of 'b', 'i', 'u', 'f', 'c'.
        result: The dtype of the result from that of the operands; the same where None.
        simplify: ``(args, params) -> value or None``: an exact identity.
        linear: 'jointly' or 'each', where it is linear; the transpose follows from `derivs`.
        linear_in: Operands in which it is linear; all where None.
        widen: False where `eager` takes 8- and 16-bit floats itself.
        check: ``(*avals, **params)``: raises where the parameters do not fit the types.
        decompose: ``(*args, **params) -> value`` in terms of other primitives, for compilers that
            do not render `scalar`.
        commutative: Whether the order of two operands does not matter, to the bit.
        spec: For the property suite.

    Returns:
        The primitive, with jvp, transpose, vjp, batching and lowering derived.
    """
    names = operands.split()
    arity = len(names)
    factors = None if isinstance(derivs, Absent) else [
        None if d is None else _Factor(d, names) for d in derivs
    ]  # fmt: skip

    jvp: Any = derivs
    vjp: Any = derivs
    transpose: Any = derivs
    if factors is not None:
        jvp = _pointwise_jvp(lambda: prim, factors)
        vjp = _pointwise_pullback(factors, arity)
        transpose = _pointwise_transpose(factors) if linear else Absent("not linear in any operand")
    prim: Primitive = Primitive(
        name,
        doc,
        abstract=_pointwise_abstract(name, names, accepts, result, check),
        eager=_pointwise_eager(eager, arity, accepts, returns_same=result is None, widen=widen),
        jvp=jvp,
        transpose=transpose,
        vjp=vjp,
        batch=lambda axis, args, dims, **p: basis.batch_pointwise(prim, axis, args, dims, p),
        lower=Lowering("pointwise", scalar, decompose, operands),
        simplify=simplify,
        linear=linear,
        linear_in=linear_in,
        commutative=commutative,
        differentiable=factors is not None and any(f is not None for f in factors),
        spec=spec,
    )
    return prim


def _pointwise_abstract(
    name: str,
    names: Sequence[str],
    accepts: str,
    result: Callable[[np.dtype[Any]], np.dtype[Any]] | None,
    check: Callable[..., None] | None,
) -> Callable[..., ShapedArray]:
    native = frozenset[int]().union(*(NATIVE[k] for k in accepts))
    arity = len(names)

    def abstract(*avals: ShapedArray, **params: Any) -> ShapedArray:
        first = avals[0]
        if arity == 1 and check is None and result is None and first.dtype.num in native:
            return first
        for a in avals:
            check_kind(name, a, accepts)
            if a.dtype != first.dtype:
                types = ", ".join(f"{n}: {a}" for n, a in zip(names, avals, strict=True))
                raise DtypeError(
                    f"{name} needs operands of one dtype, got {types}; convert one with astype, "
                    f"or use fgrad.numpy, which promotes dtypes"
                )
        if check is not None:
            check(*avals, **params)
        shape = basis.broadcast_shapes(name, avals)
        dtype = first.dtype if result is None else result(first.dtype)
        weak = all(a.weak_type for a in avals) and dtype.kind != "b"
        return ShapedArray(shape, dtype, weak)

    return abstract


def _pointwise_eager(
    eager: Any, arity: int, accepts: str, *, returns_same: bool, widen: bool
) -> Any:
    native = frozenset[int]().union(*(NATIVE[k] for k in accepts))

    def wide(xp: Any, *args: Any, **params: Any) -> Any:
        dtype = args[0].dtype
        w = basis.wide(dtype)
        if w is None or "f" not in accepts or any(a.dtype != dtype for a in args):
            raise ValueError("dtypes")  # the abstract rule says it in full
        if not widen:
            return eager(xp, *args, **params)
        out = eager(xp, *[a.astype(w) for a in args], **params)
        return out.astype(dtype) if returns_same else out

    def unary(xp: Any, x: Any, **params: Any) -> Any:
        return eager(xp, x, **params) if x.dtype.num in native else wide(xp, x, **params)

    def binary(xp: Any, x: Any, y: Any, **params: Any) -> Any:
        dtype = x.dtype
        if (dtype is y.dtype or dtype == y.dtype) and dtype.num in native:
            return eager(xp, x, y, **params)
        return wide(xp, x, y, **params)

    def several(xp: Any, *args: Any, **params: Any) -> Any:
        dtype = args[0].dtype
        if all(a.dtype == dtype for a in args) and dtype.num in native:
            return eager(xp, *args, **params)
        return wide(xp, *args, **params)

    return unary if arity == 1 else binary if arity == 2 else several


def _pointwise_jvp(prim_of: Any, factors: Sequence[_Factor | None]) -> Any:
    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
    ) -> tuple[Value, Value | None]:
        out = bind(prim_of(), *primals, **params)
        values = (out, *primals)
        total = None
        for factor, t in zip(factors, tangents, strict=True):
            if factor is not None and t is not None:
                total = basis.add_tangents(total, factor.scale(t, values, params))
        return out, None if total is None else basis.broadcast_to(total, out.shape)

    return jvp


def _pointwise_transpose(factors: Sequence[_Factor | None]) -> Any:
    def transpose(ct: Value, *args: Any, **params: Any) -> tuple[Value | None, ...]:
        # A linear derivative names no linear operand, so `Unknown`s are never read.
        return tuple(
            basis.unbroadcast(f.scale(ct, (None, *args), params), a.aval.shape)
            if f is not None and isinstance(a, Unknown) else None
            for f, a in zip(factors, args, strict=True)
        )  # fmt: skip

    return transpose


def _pointwise_pullback(factors: Sequence[_Factor | None], arity: int) -> Pullback:
    """Residuals: out, the operands, then (for several operands) their shapes; unused ones None."""
    chosen: dict[tuple[bool, ...], tuple[int, ...]] = {}

    def select(needed: tuple[bool, ...]) -> tuple[int, ...]:
        found = chosen.get(needed)
        if found is None:
            used = {
                i for f, n in zip(factors, needed, strict=True) if n and f is not None
                for i in f.needs
            }  # fmt: skip
            values = [i if i in used else NOTHING for i in (OUT, *range(arity))]
            shapes = [] if arity == 1 else [SHAPE(i) for i in range(arity)]
            found = chosen[needed] = (*values, *shapes)
        return found

    def backward(
        needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, params: dict[str, Any]
    ) -> Sequence[Value | None]:
        if arity == 1:
            factor = factors[0]
            return (None if factor is None else factor.scale(ct, residuals, params),)
        shapes = residuals[1 + arity :]
        return [
            basis.unbroadcast(f.scale(ct, residuals, params), shape)
            if n and f is not None else None
            for f, n, shape in zip(factors, needed, shapes, strict=True)
        ]  # fmt: skip

    return Pullback(None, backward, select)


def structural(
    name: str,
    *,
    doc: str,
    abstract: Callable[..., ShapedArray],
    eager: Callable[..., Any],
    transpose: Callable[..., tuple[Value | None, ...]],
    batch: Callable[..., tuple[Value, int | None]],
    lower: Lowering | Absent,
    simplify: Callable[..., Any] | None = None,
    spec: Spec,
) -> Primitive:
    """Declare an operation that is linear in its one operand.

    Args:
        name: The primitive's name.
        doc: What it computes, in one line.
        abstract: ``(aval, **params) -> aval``.
        eager: ``(xp, array, **params) -> array``.
        transpose: ``(ct, unknown, **params) -> (ct,)``.
        batch: ``(axis, args, dims, **params) -> (out, dim)``.
        lower: For compilers.
        simplify: ``(args, params) -> value or None``: an exact identity.
        spec: For the property suite.

    Returns:
        The primitive; its jvp is itself on the tangent, its pullback keeps nothing but a type.
    """
    prim: Primitive = Primitive(
        name,
        doc,
        abstract=abstract,
        eager=eager,
        jvp=lambda primals, tangents, **params: basis.linear_jvp(
            lambda: prim, primals, tangents, **params
        ),
        transpose=transpose,
        vjp=basis.linear_pullback(transpose),
        batch=batch,
        lower=lower,
        simplify=simplify,
        linear="jointly",
        spec=spec,
    )
    return prim


def constant(
    name: str,
    *,
    doc: str,
    reason: str,
    abstract: Callable[..., Any],
    eager: Callable[..., Any],
    batch: Callable[..., Any] | Absent,
    lower: Lowering | Absent,
    multiple_results: bool = False,
    spec: Spec | Absent,
) -> Primitive:
    """Declare an operation without derivatives; `reason` says why there are none."""
    absent = Absent(reason)
    return Primitive(
        name,
        doc,
        abstract=abstract,
        eager=eager,
        jvp=absent,
        transpose=absent,
        vjp=absent,
        batch=batch,
        lower=lower,
        differentiable=False,
        multiple_results=multiple_results,
        spec=spec,
    )
