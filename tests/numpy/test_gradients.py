"""Derivatives of the functions that are composed here, against differences, at orders 1 and 2."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp

RNG = np.random.default_rng(7)
X = RNG.uniform(0.3, 1.7, (3, 4)) * RNG.choice([-1, 1], (3, 4))
Y = RNG.uniform(0.3, 1.7, (3, 4))
V = RNG.uniform(0.5, 2.0, 4)
S = RNG.normal(size=(3, 3)) + 3 * np.eye(3)
T = RNG.normal(size=(4, 3))
POINTS = np.array([0.0, 0.7, 1.1, 2.4])
MASK = RNG.uniform(size=(3, 4)) > 0.4

# A name, the function, and where it is differentiated.
CASES: list[tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]] = [
    ("hypot", fnp.hypot, (X, Y)),
    ("logaddexp", fnp.logaddexp, (X, Y)),
    ("logaddexp tie", fnp.logaddexp, (X, X)),
    ("logaddexp2", fnp.logaddexp2, (X, Y)),
    ("sinc", fnp.sinc, (X,)),
    ("sinc near 0", fnp.sinc, (np.array([0.0, 0.05, -0.1, 0.1591549, 0.2]),)),
    ("log2", fnp.log2, (Y,)),
    ("log10", fnp.log10, (Y,)),
    ("degrees", fnp.degrees, (X,)),
    ("i0", fnp.i0, (X,)),
    ("power", fnp.power, (Y, X)),
    ("integer power", lambda x: x**3 + x**-2, (X,)),
    ("float_power", fnp.float_power, (Y, X)),
    ("remainder", fnp.remainder, (X, Y)),
    ("fmod", fnp.fmod, (X, Y)),
    ("divmod", lambda x, y: fnp.divmod(x, y)[1], (X, Y)),
    ("copysign", fnp.copysign, (X, Y)),
    ("fmax", fnp.fmax, (X, Y)),
    ("modf", lambda x: fnp.modf(x)[0], (X,)),
    ("frexp", lambda x: fnp.frexp(x)[0], (X,)),
    ("ldexp", lambda x: fnp.ldexp(x, 3), (X,)),
    ("nan_to_num", fnp.nan_to_num, (X,)),
    ("clip", lambda x: fnp.clip(x, -1.0, 1.0), (X,)),
    ("angle", lambda x, y: fnp.angle(x + 1j * y), (X, Y)),
    ("mean", lambda x: fnp.mean(x, 0), (X,)),
    ("mean where", lambda x: fnp.mean(x, where=MASK), (X,)),
    ("average", lambda x, w: fnp.average(x, 1, weights=w), (X, V)),
    ("var", lambda x: fnp.var(x, 1, ddof=1), (X,)),
    ("var where", lambda x: fnp.var(x, where=MASK), (X,)),
    ("std", lambda x: fnp.std(x, 0), (X,)),
    ("prod", lambda x: fnp.prod(x, 1), (X,)),
    ("max", lambda x: fnp.max(x, 1), (X,)),
    ("ptp", lambda x: fnp.ptp(x, 1), (X,)),
    ("nansum", fnp.nansum, (X,)),
    ("nanmean", fnp.nanmean, (X,)),
    ("nanstd", fnp.nanstd, (X,)),
    ("cumsum", lambda x: fnp.cumsum(x, 1), (X,)),
    ("cumprod", lambda x: fnp.cumprod(x, 1), (X,)),
    ("diff", lambda x: fnp.diff(x, 2), (X,)),
    ("gradient", lambda x: fnp.stack(fnp.gradient(x)), (X,)),
    ("gradient at points", lambda x, p: fnp.gradient(x, p, axis=1), (X, np.cumsum(V))),
    ("trapezoid", fnp.trapezoid, (X, V)),
    ("linspace", lambda a, b: fnp.linspace(a, b, 5), (V, 2 * V)),
    ("geomspace", lambda a, b: fnp.geomspace(a, b, 4), (V, 2 * V)),
    ("vander", fnp.vander, (V,)),
    ("tril", fnp.tril, (S,)),
    ("diag", lambda v: fnp.diag(v, 1), (V,)),
    ("trace", fnp.trace, (S,)),
    ("matmul", lambda x, t: x @ t, (X, T)),
    (
        "matmul broadcast",
        lambda x, t: fnp.matmul(x[:, None], t),
        (X, RNG.normal(size=(2, 1, 4, 3))),
    ),
    ("vdot", fnp.vdot, (X, Y)),
    ("vecdot", fnp.vecdot, (X, Y)),
    ("tensordot", lambda x, t: fnp.tensordot(x, t, 1), (X, T)),
    ("einsum", lambda x, t, s: fnp.einsum("ij,jk,kl->il", x, t, s), (X, T, S)),
    ("einsum diagonal", lambda s: fnp.einsum("ii->i", s), (S,)),
    ("kron", fnp.kron, (S, T)),
    ("cross", fnp.cross, (S, S[::-1].copy())),
    ("outer", fnp.outer, (V, V)),
    ("pad", lambda x: fnp.pad(x, 1, mode="reflect"), (X,)),
    ("pad odd", lambda x: fnp.pad(x, 2, mode="symmetric", reflect_type="odd"), (X,)),
    ("pad ramp", lambda x: fnp.pad(x, 2, mode="linear_ramp", end_values=1.0), (X,)),
    ("pad mean", lambda x: fnp.pad(x, 2, mode="mean"), (X,)),
    ("roll", lambda x: fnp.roll(x, (1, -1), (0, 1)), (X,)),
    ("repeat", lambda x: fnp.repeat(x, np.array([1, 0, 2]), axis=0), (X,)),
    ("insert", lambda x, v: fnp.insert(x, 1, v, axis=0), (X, V)),
    ("block", lambda s: fnp.block([[s, s], [s, 2 * s]]), (S,)),
    ("where", lambda x, y: fnp.where(MASK, x, y), (X, Y)),
    ("select", lambda x, y: fnp.select([MASK], [x], y), (X, Y)),
    ("take", lambda x: fnp.take(x, np.array([0, 0, 2]), 1), (X,)),
    ("take_along_axis", lambda x: fnp.take_along_axis(x, np.argsort(X, 1), 1), (X,)),
    ("sort", lambda x: fnp.sort(x, 0), (X,)),
    ("sort descending", lambda x: fnp.sort(x, 0, descending=True), (X,)),
    ("median", lambda x: fnp.median(x, 1), (X,)),
    ("quantile", lambda x: fnp.quantile(x, 0.3, axis=1), (X,)),
    ("quantile level", lambda q: fnp.quantile(X, q), (np.array(0.37),)),
    ("interp", lambda x, f: fnp.interp(x, POINTS, f), (Y, V)),
    ("interp points", lambda p: fnp.interp(Y, p, V), (POINTS,)),
    ("interp periodic", lambda f: fnp.interp(X, POINTS, f, period=3.0), (V,)),
    ("histogram weights", lambda w: fnp.histogram(X, 3, weights=w)[0], (Y,)),
    ("cov", fnp.cov, (X,)),
    ("cov weighted", lambda x, w: fnp.cov(x, aweights=w), (X, V)),
    ("corrcoef", lambda x: fnp.corrcoef(x)[0, 1], (X,)),
    ("convolve", fnp.convolve, (V, V[:3].copy())),
    ("correlate", lambda a, v: fnp.correlate(a, v, "same"), (V[:3].copy(), V)),
    ("polyval", fnp.polyval, (V, X)),
    ("polyfit", lambda y: fnp.polyfit(POINTS, y, 2), (V,)),
    ("unwrap", lambda x: fnp.unwrap(x * 6), (X,)),
    ("apply_along_axis", lambda x: fnp.apply_along_axis(fnp.cumprod, 1, x), (X,)),
    ("norm", fnp.linalg.norm, (X,)),
    ("norm rows", lambda x: fnp.linalg.norm(x, axis=1), (X,)),
    ("norm 3", lambda x: fnp.linalg.norm(x, 3, axis=1), (X,)),
    ("norm 1", lambda x: fnp.linalg.norm(x, 1), (X,)),
    ("norm nuclear", lambda x: fnp.linalg.norm(x, "nuc"), (X,)),
    ("norm spectral", lambda x: fnp.linalg.norm(x, 2), (X,)),
    ("det 2", lambda s: fnp.linalg.det(s[:2, :2]), (S,)),
    ("det 3", fnp.linalg.det, (S,)),
    ("det 4", lambda x: fnp.linalg.det(x.T @ S @ x + fnp.eye(4)), (X,)),
    ("slogdet", lambda s: fnp.linalg.slogdet(s)[1], (S,)),
    ("solve", fnp.linalg.solve, (S, S[0].copy())),
    ("solve batch", lambda s, t: fnp.linalg.solve(fnp.stack([s, 2 * s]), t), (S, T[:3].copy())),
    ("inv", fnp.linalg.inv, (S,)),
    ("cholesky", lambda s: fnp.linalg.cholesky(s @ s.T), (S,)),
    ("cholesky upper", lambda s: fnp.linalg.cholesky(s @ s.T, upper=True), (S,)),
    ("qr", lambda t: fnp.abs(fnp.linalg.qr(t)[1]), (T,)),
    ("svdvals", fnp.linalg.svdvals, (T,)),
    ("eigvalsh", lambda s: fnp.linalg.eigvalsh(s + s.T), (S,)),
    ("pinv tall", fnp.linalg.pinv, (T,)),
    ("pinv wide", fnp.linalg.pinv, (T.T.copy(),)),
    ("lstsq", lambda t, b: fnp.linalg.lstsq(t, b)[0], (T, V)),
    ("matrix_power", lambda s: fnp.linalg.matrix_power(s, -3), (S,)),
    ("multi_dot", lambda x, t, s: fnp.linalg.multi_dot([x, t, s]), (X, T, S)),
    ("cond", fnp.linalg.cond, (S,)),
    ("tensorsolve", lambda s: fnp.linalg.tensorsolve(s, V[:3]), (S,)),
    ("rfft", lambda x: fnp.abs(fnp.fft.rfft(x)), (X,)),
    ("irfft", lambda x, y: fnp.fft.irfft(x + 1j * y, 5), (X, Y)),
    ("fft2", lambda x: fnp.abs(fnp.fft.fft2(x, norm="ortho")) ** 2, (X,)),
    ("ifftn", lambda x: fnp.real(fnp.fft.ifftn(x, (4, 3))), (X,)),
    ("hfft", lambda x, y: fnp.fft.hfft(x + 1j * y), (X, Y)),
    ("fftshift", fnp.fft.fftshift, (X,)),
]


def _difference(f: Callable[..., Any], xs: Any, vs: Any, h: float = 1e-3) -> np.ndarray:
    """The derivative along `vs` by a 5-point formula."""

    def at(t: float) -> np.ndarray:
        return np.asarray(f(*(fnp.asarray(x + t * v) for x, v in zip(xs, vs, strict=True))))

    return (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h)


@pytest.mark.parametrize(("name", "f", "xs"), CASES, ids=[c[0] for c in CASES])
def test_derivatives(name: str, f: Callable[..., Any], xs: tuple[np.ndarray, ...]) -> None:
    del name
    rng = np.random.default_rng(1)
    vs = [rng.normal(size=x.shape) for x in xs]
    arrays = tuple(map(fnp.asarray, xs))
    tangents = tuple(map(fnp.asarray, vs))
    out, pushed = fg.jvp(f, arrays, tangents)
    np.testing.assert_allclose(pushed, _difference(f, xs, vs), rtol=1e-7, atol=1e-8)
    # Reverse mode is the adjoint of forward mode.
    ct = rng.normal(size=out.shape).astype(out.dtype)
    pulled = fg.vjp(f, *arrays)[1](fnp.asarray(ct))
    left = sum(float(np.sum(np.asarray(p) * v)) for p, v in zip(pulled, vs, strict=True))
    np.testing.assert_allclose(left, np.sum(ct * np.asarray(pushed)).real, rtol=1e-9, atol=1e-10)

    def along(*ys: Any) -> Any:
        return fg.jvp(f, ys, tangents)[1]

    ws = [rng.normal(size=x.shape) for x in xs]
    second = fg.jvp(along, arrays, tuple(map(fnp.asarray, ws)))[1]
    np.testing.assert_allclose(second, _difference(along, xs, ws), rtol=1e-6, atol=1e-7)


ZERO = fnp.zeros(3)


@pytest.mark.parametrize(
    "f",
    [
        fnp.linalg.norm,
        fnp.std,
        lambda x: fnp.linalg.norm(x, 3),
        lambda x: fnp.linalg.norm(x, axis=0),
        lambda x: fnp.hypot(x, x).sum(),
        lambda x: fnp.arctan2(x, x).sum(),
        lambda x: fnp.linalg.matrix_norm(fnp.outer(x, x)),
        lambda x: fnp.abs(x).sum(),
    ],
)
def test_derivatives_at_the_kink_are_zero(f: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(fg.grad(f)(ZERO), np.zeros(3))
    np.testing.assert_array_equal(fg.jvp(f, (ZERO,), (fnp.ones(3),))[1], 0.0)


def test_ties_share() -> None:
    x = fnp.array([1.0, 1.0, 0.0])
    np.testing.assert_array_equal(fg.grad(fnp.max)(x), [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(fg.grad(lambda a: fnp.maximum(a, 1.0).sum())(x), [0.5, 0.5, 0])
    np.testing.assert_array_equal(fg.grad(lambda a: fnp.clip(a, 0, 1).sum())(x), [0.5] * 3)


def test_branches_not_taken_contribute_nothing() -> None:
    x = fnp.array([0.0, 4.0])
    np.testing.assert_array_equal(
        fg.grad(lambda a: fnp.where(a > 0, fnp.sqrt(a), 0.0).sum())(x), [0.0, 0.25]
    )


def test_polynomial_division() -> None:
    u, v = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0])
    q, r = fnp.polydiv(u, v)
    np.testing.assert_allclose(fnp.polyadd(fnp.polymul(q, v), r), u)
    for a, b in zip((q, r), np.polydiv(u, v), strict=True):
        np.testing.assert_allclose(a, b)


@pytest.mark.parametrize("q", [0.3, 0.5, 1 / 3])
def test_a_quantile_between_equal_elements_shares_the_derivative_as_between_others(
    q: float,
) -> None:
    x = np.array([1.0, 1.0, 1.0, 2.0])
    apart = np.array([1.0, 1.1, 1.2, 2.0])
    for f in (fnp.quantile, fnp.nanquantile):
        np.testing.assert_allclose(fg.grad(f)(x, q), fg.grad(f)(apart, q), rtol=1e-12)
    assert fg.grad(fnp.median)(np.zeros(2)).tolist() == [0.5, 0.5]
    infinite = np.array([np.inf, np.inf, 0.0])
    assert fnp.quantile(infinite, 0.8) == np.inf
    assert np.isfinite(np.asarray(fg.grad(lambda x: fnp.quantile(x, 0.8))(infinite))).all()


def test_the_floor_of_a_quotient_has_derivative_zero_by_zero_too() -> None:
    x, y = np.array([0.0, 1.0, -2.0]), np.zeros(3)
    for g in fg.grad(lambda x, y: fnp.floor_divide(x, y).sum(), (0, 1))(x, y):
        np.testing.assert_array_equal(g, np.zeros(3))
