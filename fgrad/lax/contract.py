"""Contractions: sums of products over chosen axes of two arrays, on BLAS.

A contraction is linear in each operand, and both transposes are contractions again. No rule copies
an operand: transposed operands reach BLAS as views, and `vmap` of one operand adds a free axis to
it instead of repeating the other.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import AxisError, ConfigError, DtypeError, ShapeError
from fgrad.core.primitive import (
    NOTHING,
    NUMERIC,
    TYPE,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import operands

__all__ = ["Precision", "batch_matmul", "dot", "dot_general", "dot_general_p"]

Axes = tuple[int, ...]
DotDimensionNumbers = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]

MATMUL: DotDimensionNumbers = (((1,), (0,)), ((), ()))
"""The product of two matrices; passing this very object takes the shortest way."""


class Precision(Enum):
    """How exactly a product of float32 matrices is computed; NumPy always computes in full."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"

    def __repr__(self) -> str:
        return self.name


_PRECISIONS: dict[Any, Precision | str] = {
    "default": Precision.DEFAULT,
    "fastest": Precision.DEFAULT,
    "high": Precision.HIGH,
    "highest": Precision.HIGHEST,
    "float32": Precision.HIGHEST,
    "bfloat16": Precision.DEFAULT,
    "bfloat16_3x": Precision.HIGH,
    "tensorfloat32": Precision.HIGH,
}


def canonical_precision(precision: Any) -> Any:
    """None, a `Precision`, or a pair of them, of what a caller wrote (names are accepted)."""
    if precision is None:
        precision = config.default_matmul_precision
        if precision is None:
            return None
    if isinstance(precision, Precision):
        return precision
    if isinstance(precision, str) and precision.lower() in _PRECISIONS:
        return _PRECISIONS[precision.lower()]
    if isinstance(precision, (tuple, list)) and len(precision) == 2:
        return tuple(canonical_precision(p) for p in precision)
    raise ConfigError(
        f"precision={precision!r} is not known; use None, a lax.Precision, a pair of them, or one "
        f"of {', '.join(map(repr, _PRECISIONS))}"
    )


def product_dtype(name: str, x: ShapedArray, y: ShapedArray, preferred: Any) -> np.dtype[Any]:
    """The dtype of a sum of products; raises `DtypeError` where `preferred` cannot hold it."""
    if x.dtype != y.dtype:
        raise DtypeError(
            f"{name} needs operands of one dtype, got lhs {x} and rhs {y}; convert one with "
            f"astype, or use fgrad.numpy, which promotes dtypes"
        )
    if preferred is None or preferred == x.dtype:
        return x.dtype
    given = x.dtype
    fits = (
        (dtypes.is_integer(given) and dtypes.is_float(preferred))
        or (
            preferred.itemsize >= given.itemsize
            and (
                (dtypes.is_integer(given) and dtypes.is_integer(preferred)
                 and dtypes.is_signed(given) == dtypes.is_signed(preferred))
                or (dtypes.is_float(given) and dtypes.is_float(preferred))
                or (dtypes.is_complex(given) and dtypes.is_complex(preferred))
            )
        )
    )  # fmt: skip
    if not fits:
        raise DtypeError(
            f"{name}: preferred_element_type={preferred} cannot hold products of {given} (lhs {x}, "
            f"rhs {y}); it must be of the same kind and no narrower, or a float for integers"
        )
    return preferred  # type: ignore[no-any-return]


def multiply_in(given: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which products of `given` are computed on the way to `out`."""
    if dtypes.is_integer(given) and dtypes.is_float(out):
        return np.dtype(np.float64)  # exact for every integer up to 32 bits
    return basis.wide(out) or out


# ------------------------------------------------------------------------------------ shapes


@lru_cache(maxsize=4096)
def _free(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> tuple[Axes, Axes]:
    """The axes of each operand (of those ranks) that are neither contracted nor batch axes."""
    (lc, rc), (lb, rb) = dimension_numbers
    return (
        tuple(i for i in range(lhs) if i not in lc and i not in lb),
        tuple(i for i in range(rhs) if i not in rc and i not in rb),
    )


def _fault(dimension_numbers: DotDimensionNumbers, x: Any, y: Any) -> str | None:
    """What is wrong with axis numbers of operands of those shapes, or None."""
    (lc, rc), (lb, rb) = dimension_numbers
    for name, a, c, b in (("lhs", x, lc, lb), ("rhs", y, rc, rb)):
        used = (*c, *b)
        if len(set(used)) != len(used) or any(not 0 <= i < len(a.shape) for i in used):
            return (
                f"the {name} axes {c} (contracting) and {b} (batch) must be distinct and within "
                f"its {len(a.shape)} axes"
            )
    for word, ls, rs in (("contracting", lc, rc), ("batch", lb, rb)):
        if len(ls) != len(rs):
            return f"lhs has {len(ls)} {word} axes {ls} and rhs has {len(rs)} {rs}"
        for i, j in zip(ls, rs, strict=True):
            if x.shape[i] != y.shape[j]:
                return (
                    f"{word} axis {i} of lhs has length {x.shape[i]} and axis {j} of rhs has "
                    f"length {y.shape[j]}"
                )
    return None


def _dot_abstract(
    x: ShapedArray, y: ShapedArray, *,
    dimension_numbers: DotDimensionNumbers, precision: Any, preferred_element_type: Any,
) -> ShapedArray:  # fmt: skip
    fault = _fault(dimension_numbers, x, y)
    if fault is not None:
        error = AxisError if "distinct" in fault else ShapeError
        raise error(
            f"dot_general: lhs {x} and rhs {y} do not contract with dimension_numbers "
            f"{dimension_numbers}: {fault}"
        )
    dtype = product_dtype("dot_general", x, y, preferred_element_type)
    lf, rf = _free(dimension_numbers, x.ndim, y.ndim)
    shape = (
        *(x.shape[i] for i in dimension_numbers[1][0]),
        *(x.shape[i] for i in lf),
        *(y.shape[i] for i in rf),
    )
    return ShapedArray(shape, dtype, x.weak_type and y.weak_type)


# ------------------------------------------------------------------------------------- eager


@lru_cache(maxsize=4096)
def _plan(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> Callable[..., Any]:
    """``(xp, lhs, rhs) -> array`` for operands of those ranks and one dtype."""
    (lc, rc), (lb, rb) = dimension_numbers
    used_l, used_r = (*lc, *lb), (*rc, *rb)
    if (
        len(lc) != len(rc)
        or len(lb) != len(rb)
        or not set(used_l) <= set(range(lhs))
        or not set(used_r) <= set(range(rhs))
        or len(set(used_l)) != len(used_l)
        or len(set(used_r)) != len(used_r)
    ):
        raise ValueError("axes")  # the abstract rule says it in full
    if len(lc) == 1 and not lb and max(lhs, rhs) <= 2:
        # ndarray.dot checks the lengths, hands transposed views to BLAS and copies what BLAS
        # cannot read; it is the quickest way into a product that NumPy has.
        flip_l, flip_r = lc[0] != lhs - 1, rc[0] != 0
        if flip_l and flip_r:
            return lambda _xp, x, y: x.T.dot(y.T)
        if flip_l:
            return lambda _xp, x, y: x.T.dot(y)
        if flip_r:
            return lambda _xp, x, y: x.dot(y.T)
        return lambda _xp, x, y: x.dot(y)
    return _general_plan(dimension_numbers, lhs, rhs)


def _general_plan(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> Callable[..., Any]:
    """One product of (stacks of) matrices: axes permuted as views, then merged."""
    (lc, rc), (lb, rb) = dimension_numbers
    lf, rf = _free(dimension_numbers, lhs, rhs)
    # The order of contraction is ours to choose: in that of lhs, its axes merge without a copy.
    order = sorted(range(len(lc)), key=lc.__getitem__)
    sums = tuple(rc[i] for i in order)
    nb, nl, nc = len(lb), len(lf), len(lc)
    left, right = (*lb, *lf, *sorted(lc)), (*rb, *sums, *rf)
    pairs = tuple(zip((*lc, *lb), (*rc, *rb), strict=True))
    moves_l, moves_r = left != tuple(range(lhs)), right != tuple(range(rhs))
    merges_l, merges_r = (nl, nc) != (1, 1), (len(rf), nc) != (1, 1)

    def run(xp: Any, x: Any, y: Any) -> Any:
        xs, ys = x.shape, y.shape
        for i, j in pairs:
            if xs[i] != ys[j]:
                raise ValueError("shapes")
        if moves_l:
            x = x.transpose(left)
        if moves_r:
            y = y.transpose(right)
        xs, ys = x.shape, y.shape
        if merges_l:
            x = x.reshape((*xs[:nb], prod(xs[nb : nb + nl]), prod(xs[nb + nl :])))
        if merges_r:
            y = y.reshape((*xs[:nb], prod(ys[nb : nb + nc]), prod(ys[nb + nc :])))
        out = xp.matmul(_blas_ready(xp, x), _blas_ready(xp, y))
        return out.reshape(xs[: nb + nl] + ys[nb + nc :]) if merges_l or merges_r else out

    return run


def _blas_ready(xp: Any, x: Any) -> Any:
    """`x`, or a copy where neither of its last two axes is contiguous (BLAS could not read it)."""
    item = x.dtype.itemsize
    strides = x.strides
    return x if item in (strides[-1], strides[-2]) else xp.ascontiguousarray(x)


def _dot_eager(
    xp: Any, x: Any, y: Any, *,
    dimension_numbers: DotDimensionNumbers, precision: Any, preferred_element_type: Any,
) -> Any:  # fmt: skip
    dtype = x.dtype
    if dtype != y.dtype:
        raise ValueError("dtypes")
    if preferred_element_type is None and dtype.char in "fdFD":
        if dimension_numbers is MATMUL and x.ndim == y.ndim == 2:
            return x.dot(y)
        return _plan(dimension_numbers, x.ndim, y.ndim)(xp, x, y)
    plan = _plan(dimension_numbers, x.ndim, y.ndim)
    out = dtype
    if preferred_element_type is not None:
        out = product_dtype(
            "dot_general", ShapedArray(x.shape, dtype), ShapedArray(y.shape, y.dtype),
            preferred_element_type,
        )  # fmt: skip
    inner = multiply_in(dtype, out)
    return plan(xp, x.astype(inner, copy=False), y.astype(inner, copy=False)).astype(
        out, copy=False
    )


# ------------------------------------------------------------------------------- derivatives


def _dot_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    (x, y), (dx, dy) = primals, tangents
    out = bind(dot_general_p, x, y, **params)
    first = None if dx is None else bind(dot_general_p, dx, y, **params)
    second = None if dy is None else bind(dot_general_p, x, dy, **params)
    return out, basis.add_tangents(first, second)


class _Back:
    """How the cotangent of one operand is contracted with the other operand.

    Attributes:
        ct_first: Whether the cotangent is the left operand of that contraction.
        dimension_numbers: Of that contraction.
        permutation: What brings its result into the operand's own layout, or None.
    """

    __slots__ = ("ct_first", "dimension_numbers", "permutation")

    def __init__(
        self, ct_first: bool, numbers: DotDimensionNumbers, permutation: Axes | None
    ) -> None:
        self.ct_first, self.dimension_numbers, self.permutation = ct_first, numbers, permutation


@lru_cache(maxsize=4096)
def _back(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int, which: int) -> _Back:
    """The contraction that pulls a cotangent back to operand `which` (0: lhs, 1: rhs).

    Of the two orders of its operands, the one is taken whose result has the operand's layout.
    """
    (lc, rc), (lb, rb) = dimension_numbers
    lf, rf = _free(dimension_numbers, lhs, rhs)
    nb = len(lb)
    ct_batch = tuple(range(nb))
    ct_left = tuple(range(nb, nb + len(lf)))
    ct_right = tuple(range(nb + len(lf), nb + len(lf) + len(rf)))
    if which == 0:
        mine_b, mine_f, mine_c = lb, lf, lc
        other_b, other_f, other_c, ct_sum = rb, rf, rc, ct_right
    else:
        mine_b, mine_f, mine_c = rb, rf, rc
        other_b, other_f, other_c, ct_sum = lb, lf, lc, ct_left
    # The other operand's contracted axes stay, in the order in which they stand there.
    summed = tuple(mine_c[i] for i in sorted(range(len(other_c)), key=other_c.__getitem__))
    found = []
    for ct_first in (which == 0, which == 1):
        if ct_first:
            numbers = ((ct_sum, other_f), (ct_batch, other_b))
            layout = (*mine_b, *mine_f, *summed)
        else:
            numbers = ((other_f, ct_sum), (other_b, ct_batch))
            layout = (*mine_b, *summed, *mine_f)
        if layout == tuple(range(len(layout))):
            return _Back(ct_first, numbers, None)
        found.append(_Back(ct_first, numbers, tuple(np.argsort(layout).tolist())))
    return found[0]


def _pull(
    which: int, ct: Value, other: Value, mine: ShapedArray, lhs: int, rhs: int,
    params: dict[str, Any],
) -> Value:  # fmt: skip
    """The cotangent of operand `which`, in its own layout and dtype."""
    back = _back(params["dimension_numbers"], lhs, rhs, which)
    if other.dtype != ct.dtype:
        other = basis.convert_element_type(other, ct.dtype)
    pair = (ct, other) if back.ct_first else (other, ct)
    precision = params["precision"]
    if type(precision) is tuple:  # one entry for lhs, one for rhs: a cotangent has none
        precision = precision[1 - which]
    out = bind(
        dot_general_p, *pair, dimension_numbers=back.dimension_numbers,
        precision=precision, preferred_element_type=None,
    )  # fmt: skip
    if back.permutation is not None:
        out = basis.transpose(out, back.permutation)
    return basis.convert_element_type(out, mine.dtype)


def _dot_transpose(ct: Value, x: Any, y: Any, **params: Any) -> tuple[Value | None, Value | None]:
    if isinstance(x, Unknown):
        mine = x.aval
        return _pull(0, ct, y, mine, mine.ndim, y.ndim, params), None
    mine = y.aval
    return None, _pull(1, ct, x, mine, x.ndim, mine.ndim, params)


def _dot_select(needed: tuple[bool, ...]) -> tuple[int, ...]:
    return (0 if needed[1] else NOTHING, 1 if needed[0] else NOTHING, TYPE(0), TYPE(1))


def _dot_backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, params: dict[str, Any]
) -> tuple[Value | None, Value | None]:
    x, y, x_aval, y_aval = residuals
    lhs, rhs = x_aval.ndim, y_aval.ndim
    return (
        _pull(0, ct, y, x_aval, lhs, rhs, params) if needed[0] else None,
        _pull(1, ct, x, y_aval, lhs, rhs, params) if needed[1] else None,
    )


# ---------------------------------------------------------------------------------- batching


def _dot_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], *,
    dimension_numbers: DotDimensionNumbers, **params: Any,
) -> tuple[Value, int]:  # fmt: skip
    (x, y), (dx, dy) = args, dims
    (lc, rc), (lb, rb) = dimension_numbers
    if dx is not None:
        lc, lb = basis.shift_axes(lc, dx), basis.shift_axes(lb, dx)
    if dy is not None:
        rc, rb = basis.shift_axes(rc, dy), basis.shift_axes(rb, dy)
    if dx is not None and dy is not None:
        numbers = ((lc, rc), ((dx, *lb), (dy, *rb)))
        return bind(dot_general_p, x, y, dimension_numbers=numbers, **params), 0
    # One operand is mapped: its mapped axis is one more free axis.
    numbers = ((lc, rc), (lb, rb))
    lf, rf = _free(numbers, x.ndim, y.ndim)
    out = bind(dot_general_p, x, y, dimension_numbers=numbers, **params)
    if dx is not None:
        return out, len(lb) + lf.index(dx)
    assert dy is not None
    return out, len(lb) + len(lf) + rf.index(dy)


# --------------------------------------------------------------------------------- primitive


def _letters(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> str:
    """The contraction in the notation of einsum."""
    (lc, rc), (lb, rb) = dimension_numbers
    left = [chr(97 + i) for i in range(lhs)]
    right = [chr(97 + lhs + i) for i in range(rhs)]
    for i, j in zip((*lc, *lb), (*rc, *rb), strict=True):
        right[j] = left[i]
    lf, rf = _free(dimension_numbers, lhs, rhs)
    out = [*(left[i] for i in (*lb, *lf)), *(right[j] for j in rf)]
    return f"{''.join(left)},{''.join(right)}->{''.join(out)}"


def _reference(
    x: Any, y: Any, *, dimension_numbers: DotDimensionNumbers, precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:  # fmt: skip
    letters = _letters(dimension_numbers, x.ndim, y.ndim)
    return np.einsum(letters, x, y, dtype=preferred_element_type or np.result_type(x, y))


def _case(shapes: str, lc: Axes, rc: Axes, lb: Axes, rb: Axes) -> Case:
    params = {
        "dimension_numbers": ((lc, rc), (lb, rb)),
        "precision": None,
        "preferred_element_type": None,
    }
    return Case(shapes, params)


def _invalid(types: tuple[str, str], error: type[Exception], match: str, numbers: Any) -> Invalid:
    return Invalid(
        types, error, match,
        dimension_numbers=numbers, precision=None, preferred_element_type=None,
    )  # fmt: skip


dot_general_p = Primitive(
    "dot_general",
    "Sums of products over the contracting axes, for each index of the batch axes.",
    abstract=_dot_abstract,
    eager=_dot_eager,
    jvp=_dot_jvp,
    transpose=_dot_transpose,
    vjp=Pullback(None, _dot_backward, _dot_select),
    batch=_dot_batch,
    lower=Lowering("library", "gemm"),
    linear="each",
    spec=Spec(
        cases=(
            _case("m k, k n", (1,), (0,), (), ()),
            _case("k m, n k", (0,), (1,), (), ()),
            _case("k, k", (0,), (0,), (), ()),
            _case("m k, k", (1,), (0,), (), ()),
            _case("m, n", (), (), (), ()),
            _case(",n", (), (), (), ()),
            _case("b m k, b k n", (2,), (1,), (0,), (0,)),
            _case("b q h d, b k h d", (3,), (3,), (0, 2), (0, 2)),
            _case("i m j, n j i", (2, 0), (1, 2), (), ()),
            _case("a j m b i, j b i a", (1, 4), (0, 2), (3, 0), (1, 3)),
        ),
        dtypes=NUMERIC,
        reference=_reference,
        ulps=None,
        terms=lambda x, y, **params: _reference(np.abs(x), np.abs(y), **params),
        invalid=(
            _invalid(("f32[2,3]", "f32[4,5]"), ShapeError, "length 3", MATMUL),
            _invalid(("f32[2,3]", "f64[3,5]"), DtypeError, "one dtype", MATMUL),
            _invalid(("f32[2,3]", "f32[3,5]"), AxisError, "within", (((2,), (0,)), ((), ()))),
            _invalid(("f32[2,3]", "f32[3,5]"), ShapeError, "axes", (((0, 1), (0,)), ((), ()))),
            _invalid(("f32[1,3]", "f32[2,3]"), ShapeError, "batch", (((1,), (1,)), ((0,), (0,)))),
        ),
    ),
)


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Sums of products of two arrays over chosen axes; every matrix product is one of these.

    Complex operands are not conjugated. Floats of 16 bits or fewer are multiplied and summed in
    float32 and rounded once.

    Args:
        lhs: An array.
        rhs: An array of the same dtype.
        dimension_numbers: ``((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))``, four
            sequences of axes; paired axes have equal lengths.
        precision: None (full float32), a `Precision`, its name, or a pair for lhs and rhs.
        preferred_element_type: Dtype in which to sum and return; that of the operands if None.

    Returns:
        An array with the batch axes, then the free axes of lhs, then those of rhs.

    Raises:
        ShapeError: Paired axes differ in number or length.
        AxisError: An axis is out of range or named twice.
        DtypeError: The dtypes differ, or `preferred_element_type` cannot hold the products.

    Example:
        >>> x = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> dot_general(x, x, (((1,), (1,)), ((), ())))
        Array([[ 5., 14.],
               [14., 50.]], dtype=float32)
    """
    if dimension_numbers is not MATMUL:
        (lc, rc), (lb, rb) = dimension_numbers
        dimension_numbers = ((tuple(lc), tuple(rc)), (tuple(lb), tuple(rb)))
    if preferred_element_type is not None:
        preferred_element_type = dtypes.dtype(preferred_element_type)
    return bind(
        dot_general_p,
        *operands(lhs, rhs),
        dimension_numbers=dimension_numbers,
        precision=canonical_precision(precision),
        preferred_element_type=preferred_element_type,
    )


def dot(
    lhs: Any,
    rhs: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """The product of two vectors, two matrices, or a matrix and a vector.

    Args:
        lhs: An array with one or two axes; its last axis is contracted.
        rhs: An array with one or two axes; its first axis is contracted.
        precision: As in `dot_general`.
        preferred_element_type: As in `dot_general`.

    Returns:
        An array with the remaining axes of lhs, then of rhs.

    Raises:
        ShapeError: An operand has no axis or more than two, or the lengths differ.
        DtypeError: The dtypes differ.

    Example:
        >>> dot(np.float32([1, 2, 3]), np.float32([4, 5, 6]))
        Array(32., dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    if lhs.ndim not in (1, 2) or rhs.ndim not in (1, 2):
        raise ShapeError(
            f"dot: lhs {lhs.aval} and rhs {rhs.aval} must have one or two axes each; use "
            f"dot_general or fgrad.numpy.matmul"
        )
    numbers = MATMUL if lhs.ndim == 2 else (((0,), (0,)), ((), ()))
    return dot_general(lhs, rhs, numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Value:
    """Matrix products of two stacks of matrices of equal leading axes.

    Args:
        lhs: [..., m, k].
        rhs: [..., k, n], with the leading axes of lhs.
        precision: As in `dot_general`.

    Returns:
        [..., m, n].

    Raises:
        ShapeError: The operands differ in rank or leading axes, or have fewer than two axes.
        DtypeError: The dtypes differ.

    Example:
        >>> batch_matmul(np.ones((2, 1, 3), np.float32), np.ones((2, 3, 1), np.float32))
        Array([[[3.]],
               [[3.]]], dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    if lhs.ndim < 2 or lhs.ndim != rhs.ndim:
        raise ShapeError(
            f"batch_matmul: lhs {lhs.aval} and rhs {rhs.aval} must have the same number of axes, "
            f"two or more"
        )
    batch = tuple(range(lhs.ndim - 2))
    return dot_general(lhs, rhs, (((lhs.ndim - 1,), (lhs.ndim - 2,)), (batch, batch)), precision)
