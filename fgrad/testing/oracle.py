"""The oracle: numerical derivatives, units in the last place, and comparisons element by element.

No tolerance here grows with the size of an array. Each element is judged by its own error bound;
where the terms of a sum may cancel, the bound names the terms.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Sequence[Array]]

_FIRST_STEP = 2.0**-6
_STEPS = 5


def epsilon(dtype: np.dtype[Any]) -> float:
    """The spacing of the numbers of an inexact dtype at 1; 0 for the others."""
    return float(dtypes.finfo(dtype).eps) if dtypes.is_inexact(dtype) else 0.0


def widest(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 or complex128 for an inexact dtype, itself for another."""
    if not dtypes.is_inexact(dtype):
        return dtype
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def widened(x: Array) -> Array:
    """`x` in double precision, exactly; integers and booleans as they are."""
    return x.astype(widest(x.dtype))


def ulp(x: Array, dtype: np.dtype[Any]) -> Array:
    """One unit in the last place of `dtype` at the magnitude of each element of `x`."""
    info = dtypes.finfo(dtype)
    magnitude = np.abs(np.asarray(x)).astype(np.float64)
    _, exponent = np.frexp(np.where(np.isfinite(magnitude), magnitude, 1.0))
    spacing = np.ldexp(float(info.eps), exponent - 1)
    return np.asarray(np.maximum(spacing, float(info.smallest_subnormal)))


def gamma(additions: int, dtype: np.dtype[Any]) -> float:
    """γ(d) = d·u / (1 - d·u): the bound on the relative error of a sum of d additions."""
    du = additions * epsilon(dtype) / 2
    return du / (1 - du)


def chain(terms: int) -> int:
    """The longest chain of additions of a sum of that many terms (summed in blocks)."""
    return min(max(terms, 1), 64 + int(np.ceil(np.log2(max(terms, 1))))) + 1


def assert_close(actual: Array, expected: Array, tolerance: Any, what: str) -> None:
    """Fail unless each element is within its tolerance; NaN equals NaN, inf equals inf.

    Args:
        actual: What is judged.
        expected: What it should be; same shape.
        tolerance: The greatest error of each element: an array or a number.
        what: Names the law in the message.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (
        f"{what}: got shape {actual.shape}, expected {expected.shape}"
    )
    a, e = widened(actual), widened(expected)
    if a.dtype.kind in "biu" and e.dtype.kind in "biu":
        bad = a != e
    else:
        with np.errstate(all="ignore"):
            same = (a == e) | (np.isnan(a) & np.isnan(e))
            bad = ~(same | (np.abs(a - e) <= tolerance))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        bound = np.broadcast_to(np.asarray(tolerance), actual.shape)[at]
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {bad.size} elements are wrong; at index {at} got "
            f"{a[at]!r}, expected {e[at]!r}, tolerance {bound:.3g}"
        )


def assert_identical(actual: Array, expected: Array, what: str) -> None:
    """Fail unless shapes, dtypes and all bits agree (NaN equals NaN)."""
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} is not {expected.dtype}"
    assert_close(actual, expected, 0.0, what)


def assert_near(
    actual: Sequence[Array], expected: Sequence[Array], what: str, through: Sequence[Array] = ()
) -> None:
    """Fail unless arrays agree but for the rounding of their dtype, and of those of `through`.

    The data of the laws are of order 1, so the terms behind an element which cancels to nearly
    nothing are of order 1 or of the largest element: either bounds the rounding of its sum.
    """
    assert len(actual) == len(expected), f"{what}: {len(actual)} results, not {len(expected)}"
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if dtypes.is_inexact(e.dtype):
            coarsest = max((e.dtype, *(t.dtype for t in through)), key=epsilon)
            assert_close(a, e, rounding(e, coarsest), f"{what}, result {i}")
        else:
            assert_close(a, e, 0.0, f"{what}, result {i}")


def rounding(expected: Array, dtype: np.dtype[Any]) -> Array:
    """The error allowed between two ways of computing the same, from data of order 1."""
    magnitude = np.abs(widened(np.asarray(expected)))
    finite = magnitude[np.isfinite(magnitude)]
    largest = max(1.0, float(finite.max())) if finite.size else 1.0
    relative = max(1e-12, 16 * epsilon(dtype))
    return relative * magnitude + 0.1 * relative * largest


def differences(
    f: Function, xs: Sequence[Array], vs: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """The derivative of f at xs along vs from 5-point differences, and a bound on its error.

    The stencil (f(x-2h) - 8f(x-h) + 8f(x+h) - f(x+2h)) / 12h errs by O(h⁴) for truncation and by
    O(ε/h) for rounding. Several steps h are tried; for each element that one is taken at which two
    neighbouring steps agree best, and their disagreement bounds the error. A step that leaves the
    domain of `f` gives NaN and is not taken.

    Args:
        f: Takes and returns float64 or complex128 arrays.
        xs: Where.
        vs: The direction, one array an operand.

    Returns:
        The derivatives and their error bounds, one array an output.
    """
    with np.errstate(all="ignore"):
        estimates = [_stencil(f, xs, vs, _FIRST_STEP / 2**k) for k in range(_STEPS)]
    best, errors = [], []
    for outs in zip(*estimates, strict=True):
        values = np.stack([value for value, _ in outs])
        noise = np.stack([n for _, n in outs])[1:]
        with np.errstate(all="ignore"):
            gaps = np.abs(values[1:] - values[:-1]) + noise
        gaps = np.where(np.isnan(gaps), np.inf, gaps)
        choice = np.argmin(gaps, axis=0)[None]
        best.append(np.take_along_axis(values[1:], choice, 0)[0])
        errors.append(np.take_along_axis(gaps, choice, 0)[0])
    return best, errors


def _stencil(
    f: Function, xs: Sequence[Array], vs: Sequence[Array], h: float
) -> list[tuple[Array, Array]]:
    """At one step: the quotient, and the rounding error that the values of f bring into it."""
    samples = [f(*[x + k * h * v for x, v in zip(xs, vs, strict=True)]) for k in (-2, -1, 1, 2)]
    out = []
    for far_left, left, right, far_right in zip(*samples, strict=True):
        eps = epsilon(left.dtype)
        ys = [widened(y) for y in (far_left, left, right, far_right)]
        quotient = ((ys[0] - ys[3]) + 8 * (ys[2] - ys[1])) / (12 * h)
        # An infinite constant, such as the maximum of nothing, has derivative 0.
        constant = np.isinf(ys[0]) & (ys[0] == ys[1]) & (ys[0] == ys[2]) & (ys[0] == ys[3])
        quotient = np.where(constant, 0.0, quotient)
        size = np.where(constant, 0.0, np.maximum(np.abs(ys[1]), np.abs(ys[2])))
        out.append((np.asarray(quotient), np.asarray(2 * eps * size / h)))
    return out


def assert_derivative(
    actual: Sequence[Array], f: Function, xs: Sequence[Array], vs: Sequence[Array], what: str
) -> None:
    """Fail unless `actual` is the derivative of f at xs along vs.

    The numerical derivative must itself be accurate to 1e-6 (of the element, or of the largest
    one): where it is not, f is not smooth there, and the spec states a wrong domain or kink.
    """
    best, errors = differences(f, xs, vs)
    assert len(actual) == len(best), f"{what}: {len(actual)} tangents for {len(best)} results"
    for i, (a, b, error) in enumerate(zip(actual, best, errors, strict=True)):
        if not a.size:
            assert a.shape == b.shape, f"{what}, result {i}: shape {a.shape}, not {b.shape}"
            continue
        coarse = max(1e-6, 64 * epsilon(a.dtype) / _FIRST_STEP)
        scale = np.abs(b) + max(1.0, float(np.max(np.abs(b))))
        rough = ~(error <= coarse * scale)
        assert not rough.any(), (
            f"{what}, result {i}: 5-point differences do not settle (error {np.max(error):.2g}); "
            f"the function is not smooth there: the spec's domain or kinks are wrong"
        )
        assert_close(a, b, 8 * error + rounding(b, a.dtype), f"{what}, result {i}")
