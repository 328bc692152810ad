"""Draws from continuous distributions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad import numpy as fnp
from fgrad.core import dtypes
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import Value
from fgrad.core.transforms.custom import custom_jvp
from fgrad.lax.threefry import random_bits
from fgrad.numpy import axes as ax
from fgrad.random.keys import Key, single, split

__all__ = [
    "beta", "cauchy", "chisquare", "dirichlet", "exponential", "gamma", "gumbel", "laplace",
    "loggamma", "logistic", "lognormal", "maxwell", "multivariate_normal", "normal", "orthogonal",
    "pareto", "rayleigh", "t", "truncated_normal", "uniform", "weibull_min",
]  # fmt: skip

Shape = Sequence[int]


def _float(name: str, dtype: Any, *, complex_too: bool = False) -> np.dtype[Any]:
    kind = dtypes.default_float() if dtype is None else dtypes.dtype(dtype)
    if dtypes.is_float(kind) or (complex_too and kind.kind == "c"):
        return kind
    raise DtypeError(f"{name} draws floats, not {kind}; pass a float dtype")


def _shape(shape: Shape | None, *params: Value) -> tuple[int, ...]:
    if shape is None:
        return np.broadcast_shapes(*(p.shape for p in params))
    return ax.shape_of(shape)


def uniform(
    key: Key, shape: Shape = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> Value:
    """Uniform numbers in [minval, maxval).

    Args:
        key: One key.
        shape: Shape of the result.
        dtype: A float dtype; the default float where None.
        minval: Lower bound, broadcast to `shape`.
        maxval: Upper bound, broadcast to `shape`.

    Example:
        >>> import fgrad as fg
        >>> fg.random.uniform(fg.random.key(0), (2,))
        Array([0.947667 , 0.9785799], dtype=float32)
    """
    kind = _float("uniform", dtype)
    shape = _shape(shape)
    low, high = (fnp.asarray(v, kind) for v in (minval, maxval))
    floats = _unit(single(key), shape, kind)
    return lax.max(low, floats * (high - low) + low)


def _unit(words: Value, shape: tuple[int, ...], kind: np.dtype[Any]) -> Value:
    """Floats in [0, 1): random mantissas in [1, 2), less 1."""
    info = dtypes.finfo(kind)
    bits = info.bits
    drawn = 8 if info.nmant < 8 else bits
    word = np.dtype(f"u{bits // 8}")
    raw = random_bits(words, shape, drawn)
    if drawn != bits:
        raw = lax.convert_element_type(raw, word)
    one = np.asarray(1.0, kind).view(word)
    mantissa = lax.shift_right_logical(raw, np.asarray(drawn - info.nmant, word))
    return lax.bitcast_convert_type(mantissa | one, kind) - np.asarray(1.0, kind)


def normal(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Standard normal numbers; for a complex dtype, of variance 1 in all.

    Example:
        >>> import fgrad as fg
        >>> fg.random.normal(fg.random.key(0), (2,))
        Array([1.622642 , 2.0252647], dtype=float32)
    """
    kind = _float("normal", dtype, complex_too=True)
    if kind.kind == "c":
        part = dtypes.real_dtype(kind)
        first, second = split(key)
        real, imag = normal(first, shape, part), normal(second, shape, part)
        return lax.complex(real, imag) * np.asarray(np.sqrt(0.5), kind)
    low = np.nextafter(np.asarray(-1.0, kind), np.asarray(0.0, kind))
    u = uniform(key, shape, kind, low, np.asarray(1.0, kind))
    return np.asarray(np.sqrt(2), kind) * lax.erf_inv(u)


def truncated_normal(
    key: Key, lower: Any, upper: Any, shape: Shape | None = None, dtype: Any = None
) -> Value:
    """Standard normal numbers between `lower` and `upper`.

    Args:
        key: One key.
        lower: Lower bound, broadcast to `shape`.
        upper: Upper bound, broadcast to `shape`.
        shape: Shape of the result; that of the bounds where None.
        dtype: A float dtype.
    """
    kind = _float("truncated_normal", dtype)
    low, high = fnp.asarray(lower, kind), fnp.asarray(upper, kind)
    root = np.asarray(np.sqrt(2), kind)
    a, b = lax.erf(low / root), lax.erf(high / root)
    u = uniform(key, _shape(shape, low, high), kind, a, b)
    out = root * lax.erf_inv(u)
    inside = np.asarray(np.inf, kind)
    return lax.clamp(lax.nextafter(low, inside), out, lax.nextafter(high, -inside))


def exponential(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Exponential numbers of rate 1."""
    return -lax.log1p(-uniform(key, shape, _float("exponential", dtype)))


def laplace(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Laplace numbers of scale 1."""
    kind = _float("laplace", dtype)
    u = uniform(key, shape, kind, np.asarray(-1.0, kind) + dtypes.finfo(kind).epsneg, 1.0)
    return lax.sign(u) * lax.log1p(-lax.abs(u))


def gumbel(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Gumbel numbers: −log(−log u)."""
    kind = _float("gumbel", dtype)
    u = uniform(key, shape, kind, dtypes.finfo(kind).tiny, 1.0)
    return -lax.log(-lax.log(u))


def logistic(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Logistic numbers: log(u / (1 − u))."""
    kind = _float("logistic", dtype)
    u = uniform(key, shape, kind, dtypes.finfo(kind).eps, 1.0)
    return lax.log(u / (np.asarray(1.0, kind) - u))


def cauchy(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Cauchy numbers: tan(π(u − ½))."""
    kind = _float("cauchy", dtype)
    u = uniform(key, shape, kind, dtypes.finfo(kind).eps, 1.0)
    return lax.tan(np.asarray(np.pi, kind) * (u - np.asarray(0.5, kind)))


def rayleigh(key: Key, scale: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Rayleigh numbers of a scale."""
    kind = _float("rayleigh", dtype)
    s = fnp.asarray(scale, kind)
    u = uniform(key, _shape(shape, s), kind)
    return s * lax.sqrt(np.asarray(-2.0, kind) * lax.log1p(-u))


def pareto(key: Key, b: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Pareto numbers of exponent `b`."""
    kind = _float("pareto", dtype)
    exponent = fnp.asarray(b, kind)
    return lax.exp(exponential(key, _shape(shape, exponent), kind) / exponent)


def weibull_min(
    key: Key, scale: Any, concentration: Any, shape: Shape = (), dtype: Any = None
) -> Value:
    """Weibull numbers."""
    kind = _float("weibull_min", dtype)
    s, c = fnp.asarray(scale, kind), fnp.asarray(concentration, kind)
    e = -lax.log1p(-uniform(key, shape, kind))
    return fnp.power(e, 1.0 / c) * s


def maxwell(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """Maxwell numbers: lengths of standard normal vectors in three dimensions."""
    kind = _float("maxwell", dtype)
    return fnp.linalg.norm(normal(key, (*_shape(shape), 3), kind), axis=-1)


def lognormal(key: Key, sigma: Any = 1.0, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Exponentials of normal numbers of standard deviation `sigma`."""
    kind = _float("lognormal", dtype)
    s = fnp.asarray(sigma, kind)
    return lax.exp(normal(key, _shape(shape, s), kind) * s)


def multivariate_normal(
    key: Key, mean: Any, cov: Any, shape: Shape | None = None, dtype: Any = None
) -> Value:
    """Normal vectors of a mean ``[..., n]`` and a covariance ``[..., n, n]``."""
    kind = _float("multivariate_normal", dtype)
    m, c = fnp.asarray(mean, kind), fnp.asarray(cov, kind)
    lead = np.broadcast_shapes(m.shape[:-1], c.shape[:-2]) if shape is None else ax.shape_of(shape)
    factor = fnp.linalg.cholesky(c)
    z = normal(key, (*lead, m.shape[-1]), kind)
    return m + fnp.einsum("...ij,...j->...i", factor, z)


def orthogonal(key: Key, n: int, shape: Shape = (), dtype: Any = None) -> Value:
    """Orthogonal matrices ``[*shape, n, n]``, uniform over the group.

    Source:
        Mezzadri, *How to generate random matrices from the classical compact groups*, 2007.
    """
    z = normal(key, (*_shape(shape), n, n), _float("orthogonal", dtype))
    q, r = fnp.linalg.qr(z)
    d = fnp.diagonal(r, 0, -2, -1)
    return q * (d / lax.abs(d))[..., None, :]


def loggamma(key: Key, a: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Logarithms of gamma numbers of shape parameter `a`.

    Derivatives:
        Of first order in `a`, at a fixed probability of the draw (see `lax.random_gamma_grad`).

    Source:
        Marsaglia and Tsang, *A simple method for generating gamma variables*, ACM TOMS 26(3), 2000;
        Figurnov, Mohamed and Mnih, *Implicit reparameterization gradients*, arXiv:1805.08498.
    """
    kind = _float("loggamma", dtype)
    concentration = fnp.asarray(a, kind)
    sizes = _shape(shape, concentration)
    flat = fnp.broadcast_to(concentration, sizes).reshape(-1)
    draws = _loggamma(single(key), flat)
    return draws.reshape(sizes)


_ROUNDS = 64  # tries of which one is taken; at acceptance above 0.95 none failing is certain


def _loggamma(words: Value, a: Value) -> Value:
    @custom_jvp
    def draw(a: Value) -> Value:
        return _marsaglia(words, a)

    # The draw is a quantile: at the same numbers its probability stays, whatever rejection did.
    draw.defjvps(lambda t, out, a: t * lax.gamma_quantile_slope(a, out))
    return draw(a)


def _marsaglia(words: Value, a: Value) -> Value:
    kind = a.dtype
    one, third = np.asarray(1.0, kind), np.asarray(1.0 / 3.0, kind)
    boosted = a < one
    alpha = lax.select(boosted, a + one, a)
    d = alpha - third
    c = third / lax.sqrt(d)
    k_normal, k_uniform, k_boost = split(words, 3)
    tries = (_ROUNDS, *a.shape)
    x = normal(k_normal, tries, kind)
    v = one + c * x
    cube = v * v * v
    u = uniform(k_uniform, tries, kind)
    safe = lax.select(v > 0, cube, fnp.ones_like(cube))
    half = np.asarray(0.5, kind)
    accepted = (v > 0) & (lax.log(u) < half * x * x + d * (one - safe + lax.log(safe)))
    first = fnp.argmax(accepted, axis=0)
    chosen = fnp.take_along_axis(safe, first[None], axis=0)[0]
    boost = lax.log1p(-uniform(k_boost, a.shape, kind)) / a
    log_x = lax.log(d * chosen)
    return lax.select(boosted, log_x + boost, log_x)


def gamma(key: Key, a: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Gamma numbers of shape parameter `a` and rate 1, with a first derivative in `a`."""
    return lax.exp(loggamma(key, a, shape, dtype))


def chisquare(key: Key, df: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Chi-square numbers of `df` degrees of freedom."""
    kind = _float("chisquare", dtype)
    return 2.0 * gamma(key, fnp.asarray(df, kind) / 2.0, shape, kind)


def t(key: Key, df: Any, shape: Shape = (), dtype: Any = None) -> Value:
    """Student's t numbers of `df` degrees of freedom."""
    kind = _float("t", dtype)
    first, second = split(key)
    half = fnp.asarray(df, kind) / 2.0
    sizes = _shape(shape) or half.shape
    return normal(first, sizes, kind) * lax.sqrt(half / gamma(second, half, sizes, kind))


def beta(key: Key, a: Any, b: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Beta numbers; computed from logarithms, so that small parameters do not underflow."""
    kind = _float("beta", dtype)
    first, second = split(key)
    x, y = fnp.asarray(a, kind), fnp.asarray(b, kind)
    sizes = _shape(shape, x, y)
    log_x, log_y = loggamma(first, x, sizes, kind), loggamma(second, y, sizes, kind)
    return lax.logistic(log_x - log_y)


def dirichlet(key: Key, alpha: Any, shape: Shape | None = None, dtype: Any = None) -> Value:
    """Dirichlet vectors of parameters ``alpha`` ``[..., n]``."""
    kind = _float("dirichlet", dtype)
    a = fnp.asarray(alpha, kind)
    lead = a.shape[:-1] if shape is None else ax.shape_of(shape)
    logs = loggamma(key, a, (*lead, a.shape[-1]), kind)
    shifted = lax.exp(logs - lax.stop_gradient(fnp.max(logs, axis=-1, keepdims=True)))
    return shifted / fnp.sum(shifted, axis=-1, keepdims=True)
