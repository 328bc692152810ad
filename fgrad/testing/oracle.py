"""The oracle: numerical derivatives, units in the last place, and comparisons element by element.

No tolerance here grows with the size of an array. Each element is judged by its own error bound;
where the terms of a sum may cancel, the bound names the terms.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Sequence[Array]]

_STEPS = (2.0**-5, 2.0**-8, 2.0**-11)
_AIM = 1e-10  # the relative error at which no smaller step is tried
# Of an array whose greatest element is at least 1, an error of that element by 1e-6 shows: the
# tolerance, 8 errors and some rounding, is less.
_COARSEST = 1e-6 / 20
_POINTS = 9  # of a difference table, and their distance
_SPACING = 2.0**-24


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


def noise(f: Function, xs: Sequence[Array], vs: Sequence[Array]) -> list[Array]:
    """The computational noise of each element of f near xs along vs: its standard deviation.

    Between close points the k-th differences of a smooth function vanish as the k-th power of
    their distance; those of uncorrelated errors of variance σ² have the mean square
    σ²·(2k)!/(k!)², for every k. So an order whose σ agrees with those of the next two orders
    within a factor 4, and whose differences have both signs, shows noise, and not the function.
    Where no order does, the least of all is taken: no function, and no more than the noise.

    Args:
        f: Takes and returns float64 or complex128 arrays.
        xs: Where.
        vs: The direction, one array an operand.

    Returns:
        One array an output.

    Source:
        Moré and Wild, *Estimating Computational Noise*, SIAM J. Sci. Comput. 33 (2011).
    """
    steps = [_SPACING * (k - _POINTS // 2) for k in range(_POINTS)]
    with np.errstate(all="ignore"):
        points = [f(*[x + s * v for x, v in zip(xs, vs, strict=True)]) for s in steps]
        return [_noise_of(np.stack([widened(y) for y in ys])) for ys in zip(*points, strict=True)]


def _noise_of(table: Array) -> Array:
    """The noise in rows that a smooth function would change little by little."""
    deviations, mixed = [], []
    for k in range(1, _POINTS - 1):
        table = np.diff(table, axis=0)
        scale = math.factorial(k) ** 2 / math.factorial(2 * k)
        deviations.append(np.sqrt(scale * np.mean(np.abs(table) ** 2, axis=0)))
        mixed.append(_has_both_signs(table.real) | _has_both_signs(table.imag))
    out = np.asarray(np.min(deviations, axis=0))
    for k in reversed(range(len(deviations) - 2)):
        near = np.stack(deviations[k : k + 3])
        shown = mixed[k] & (near.max(0) <= 4 * near.min(0))
        out = np.where(shown, deviations[k], out)
    return out


def _has_both_signs(table: Array) -> Array:
    return np.asarray((table > 0).any(0) & (table < 0).any(0))


def differences(
    f: Function, xs: Sequence[Array], vs: Sequence[Array], noises: Sequence[Array] | None = None
) -> tuple[list[Array], list[Array]]:
    """The derivative of f at xs along vs from 5-point differences, and a bound on its error.

    The stencil (f(x-2h) - 8f(x-h) + 8f(x+h) - f(x+2h)) / 12h errs by c₄h⁴ + c₆h⁶ + …; three of
    them, at h, h/2 and h/4, share half their points and extrapolate to O(h⁸). The last correction,
    and the error of f divided by the least step, bound the error. Smaller h are tried until
    every element is accurate, as near a singularity, or where a step leaves the domain of `f` and
    gives NaN.

    Args:
        f: Takes and returns float64 or complex128 arrays.
        xs: Where.
        vs: The direction, one array an operand.
        noises: The error of f, one array an output, where it has been measured; f is taken to be
            rounded twice otherwise. With it no bound is less than the change of the estimate from
            h to 3h/4: a last correction may be small by chance.

    Returns:
        The derivatives and their error bounds, one array an output.
    """
    best: list[Array] = []
    errors: list[Array] = []
    for h in _STEPS:
        with np.errstate(all="ignore"):
            estimates = _estimates(f, xs, vs, h, noises)
            if not best:
                best = [value for value, _ in estimates]
                errors = [error for _, error in estimates]
            else:
                for i, (value, error) in enumerate(estimates):
                    better = error < errors[i]
                    best[i] = np.where(better, value, best[i])
                    errors[i] = np.where(better, error, errors[i])
            if all(
                bool((e <= _AIM * (1 + np.abs(b))).all()) for b, e in zip(best, errors, strict=True)
            ):
                break
    return best, errors


def _estimates(
    f: Function, xs: Sequence[Array], vs: Sequence[Array], h: float, noises: Sequence[Array] | None
) -> list[tuple[Array, Array]]:
    """For each result of f: the derivative by steps around h, and the bound on its error."""
    out = _extrapolated(f, xs, vs, h, noises)
    if noises is not None:
        again = _extrapolated(f, xs, vs, 0.75 * h, noises)
        out = [
            (value, np.maximum(error, np.abs(value - other)))
            for (value, error), (other, _) in zip(out, again, strict=True)
        ]
    return [(value, np.where(np.isnan(error), np.inf, error)) for value, error in out]


def _extrapolated(
    f: Function, xs: Sequence[Array], vs: Sequence[Array], h: float, noises: Sequence[Array] | None
) -> list[tuple[Array, Array]]:
    """For each result of f: the extrapolated derivative, and its last correction and noise."""
    steps = [2 * h, h, h / 2, h / 4]
    left = [f(*[x - s * v for x, v in zip(xs, vs, strict=True)]) for s in steps]
    right = [f(*[x + s * v for x, v in zip(xs, vs, strict=True)]) for s in steps]
    out = []
    for i in range(len(left[0])):
        ahead = [widened(r[i]) for r in right]
        behind = [widened(r[i]) for r in left]
        # An infinite constant, such as the maximum of nothing, has derivative 0.
        endless = np.isinf(ahead[0])
        for y in (*ahead, *behind):
            endless = endless & (y == ahead[0])
        odd = [np.where(endless, 0.0, a - b) for a, b in zip(ahead, behind, strict=True)]
        five = [(8 * odd[k + 1] - odd[k]) / (12 * steps[k + 1]) for k in range(3)]
        six = [five[k + 1] + (five[k + 1] - five[k]) / 15 for k in range(2)]
        value = six[1] + (six[1] - six[0]) / 63
        size = np.where(endless, 0.0, np.maximum(np.abs(ahead[1]), np.abs(behind[1])))
        wrong = 2 * epsilon(left[0][i].dtype) * size
        # The weights of the stencil add up to one such deviation over the least step.
        wrong = wrong if noises is None else np.maximum(wrong, noises[i])
        error = np.abs(six[1] - six[0]) / 8 + wrong / steps[3]
        out.append((np.asarray(value), np.asarray(error)))
    return out


def assert_derivative(
    actual: Sequence[Array], f: Function, xs: Sequence[Array], vs: Sequence[Array], what: str
) -> None:
    """Fail unless `actual` is the derivative of f at xs along vs.

    An element is first judged as if f were rounded twice. If one is farther off, the noise of f
    is measured, the differences are checked by others, and all are judged by that.

    The numerical derivative of a double result must itself be accurate to 5e-8 (of the element, or
    of the largest one): where it is not, f is not smooth there, and the spec states a wrong domain
    or kink.
    """
    best, errors = differences(f, xs, vs)
    assert len(actual) == len(best), f"{what}: {len(actual)} tangents for {len(best)} results"
    try:
        _judge(actual, best, errors, what)
    except AssertionError:
        _judge(actual, *differences(f, xs, vs, noise(f, xs, vs)), what)


def _judge(
    actual: Sequence[Array], best: Sequence[Array], errors: Sequence[Array], what: str
) -> None:
    for i, (a, b, error) in enumerate(zip(actual, best, errors, strict=True)):
        if not a.size:
            assert a.shape == b.shape, f"{what}, result {i}: shape {a.shape}, not {b.shape}"
            continue
        scale = np.abs(b) + max(1.0, float(np.max(np.abs(b))))
        # Differences of a result that is rounded to a narrow dtype say little.
        coarsest = max(_COARSEST, 1024 * epsilon(a.dtype) / _STEPS[0])
        rough = ~(error <= coarsest * scale)
        assert not rough.any(), (
            f"{what}, result {i}: 5-point differences do not settle (error {np.max(error):.2g}); "
            f"the function is not smooth there: the spec's domain or kinks are wrong"
        )
        assert_close(a, b, 8 * error + rounding(b, a.dtype), f"{what}, result {i}")
