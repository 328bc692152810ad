"""Draws of integers, choices and permutations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad import numpy as fnp
from fgrad.core import dtypes
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.lax.threefry import random_bits
from fgrad.numpy import axes as ax
from fgrad.random.continuous import exponential, gamma, gumbel, uniform
from fgrad.random.keys import Key, split, words_of

__all__ = [
    "bernoulli", "ball", "categorical", "choice", "permutation", "rademacher", "randint",
]  # fmt: skip

Shape = Sequence[int]


def bernoulli(key: Key, p: Any = 0.5, shape: Shape | None = None) -> Value:
    """True with probability `p`.

    Args:
        key: One key.
        p: Probability, broadcast to `shape`.
        shape: Shape of the result; that of `p` where None.

    Returns:
        bool.
    """
    prob = as_value(p)
    if not dtypes.is_float(prob.dtype):
        prob = fnp.asarray(p, dtypes.default_float())
    sizes = prob.shape if shape is None else ax.shape_of(shape)
    return uniform(key, sizes, prob.dtype) < prob


def rademacher(key: Key, shape: Shape = (), dtype: Any = None) -> Value:
    """−1 or 1, with equal probability."""
    kind = dtypes.default_int() if dtype is None else dtypes.dtype(dtype)
    signs = bernoulli(key, 0.5, shape)
    one = np.asarray(1, kind)
    return lax.select(
        signs, fnp.broadcast_to(one, signs.shape), fnp.broadcast_to(-one, signs.shape)
    )


def randint(key: Key, shape: Shape, minval: Any, maxval: Any, dtype: Any = None) -> Value:
    """Uniform integers in [minval, maxval).

    Args:
        key: One key.
        shape: Shape of the result.
        minval: Least value, broadcast to `shape`.
        maxval: One more than the greatest value, broadcast to `shape`.
        dtype: An integer dtype; the default integer where None.

    Example:
        >>> import fgrad as fg
        >>> fg.random.randint(fg.random.key(0), (3,), 0, 10)
        Array([9, 0, 2], dtype=int32)
    """
    kind = dtypes.default_int() if dtype is None else dtypes.dtype(dtype)
    if kind.kind not in "iu":
        raise DtypeError(f"randint draws integers, not {kind}")
    low, high = as_value(minval), as_value(maxval)
    for v in (low, high):
        if v.dtype.kind not in "iu":
            raise DtypeError(f"randint takes integer bounds, got {v.aval}")
    if kind.itemsize < 4:
        # Drawn in 32 bits, as in JAX: remainders of fewer would be biased.
        info = dtypes.iinfo(kind)
        first = lax.convert_element_type(_within(low, info.min, info.max), np.int32)
        last = lax.convert_element_type(_within(high, info.min, info.max + 1), np.int32)
        return lax.convert_element_type(randint(key, shape, first, last, np.int32), kind)
    greatest = int(dtypes.iinfo(kind).max)
    beyond = high > min(greatest, int(dtypes.iinfo(high.dtype).max))
    bottom, top = (
        lax.convert_element_type(_within(v, dtypes.iinfo(kind).min, greatest), kind)
        for v in (low, high)
    )
    word = np.dtype(f"u{kind.itemsize}")
    nbits = kind.itemsize * 8
    first, second = split(key)
    high_bits, low_bits = (
        random_bits(words_of(k), ax.shape_of(shape), nbits) for k in (first, second)
    )
    span = lax.convert_element_type(top - bottom, word)
    # An empty range gives minval; a range that reaches the dtype's maximum includes it.
    span = lax.select_n(top <= bottom, span, np.asarray(1, word))
    span = lax.select_n(beyond & (top > bottom), span, span + np.asarray(1, word))
    multiplier = lax.rem(np.asarray(2 ** (nbits // 2), word), span)
    multiplier = lax.rem(multiplier * multiplier, span)
    offset = lax.rem(high_bits, span) * multiplier + lax.rem(low_bits, span)
    return bottom + lax.convert_element_type(lax.rem(offset, span), kind)


def _within(v: Value, least: int, greatest: int) -> Value:
    """Integers clipped to a range, of which their dtype may hold a part only."""
    info = dtypes.iinfo(v.dtype)
    return fnp.clip(v, max(int(least), int(info.min)), min(int(greatest), int(info.max)))


def permutation(key: Key, x: Any, axis: int = 0, independent: bool = False) -> Value:
    """A random order of ``range(x)``, or of the slices of an array.

    Args:
        key: One key.
        x: An integer or an array.
        axis: The axis that is shuffled.
        independent: Whether each slice along `axis` gets an order of its own.

    Example:
        >>> import fgrad as fg
        >>> sorted(fg.random.permutation(fg.random.key(0), 4).tolist())
        [0, 1, 2, 3]
    """
    if isinstance(x, (int, np.integer)):
        return _shuffle(key, fnp.arange(int(x)), 0)
    value = fnp.asarray(x)
    if value.ndim == 0:
        if value.dtype.kind not in "iu":
            raise DtypeError(
                f"permutation takes an integer or an array with axes, got {value.aval}"
            )
        return _shuffle(key, fnp.arange(int(value)), 0)
    axis = ax.one("permutation", axis, value.ndim)
    if independent or value.ndim == 1:
        return _shuffle(key, value, axis)
    order = _shuffle(key, fnp.arange(value.shape[axis]), 0)
    return fnp.take(value, order, axis=axis)


def _shuffle(key: Key, x: Value, axis: int) -> Value:
    """Sort by random words, often enough that ties do not matter."""
    limit = np.iinfo(np.uint32).max
    rounds = int(np.ceil(3 * np.log(max(1, x.size)) / np.log(limit)))
    words = words_of(key)
    for _ in range(rounds):
        words, sub = split(words)
        order = random_bits(sub, x.shape, 32)
        _, x = lax.sort_key_val(order, x, axis)
    return x


def choice(
    key: Key, a: Any, shape: Shape = (), replace: bool = True, p: Any = None, axis: int = 0
) -> Value:
    """Random elements of an array, or of ``range(a)``.

    Args:
        key: One key.
        a: An integer or an array.
        shape: How many, as a shape.
        replace: Whether an element may be drawn more than once.
        p: Probabilities ``[n]``; uniform where None.
        axis: The axis of `a` that is drawn from.

    Raises:
        ShapeError: More elements than there are, without replacement.
    """
    whole = isinstance(a, (int, np.integer))
    values = None if whole else fnp.asarray(a)
    n = int(a) if values is None else values.shape[ax.one("choice", axis, values.ndim)]
    shape = ax.shape_of(shape)
    count = int(np.prod(shape))
    if n <= 0 and count:
        raise ShapeError("choice: there is nothing to choose from")
    if not replace and count > n:
        raise ShapeError(f"choice: {count} elements without replacement of {n}; pass replace=True")
    if p is None and replace:
        index = randint(key, shape, 0, n)
    elif p is None:
        if values is not None:
            index = permutation(key, n)[:count].reshape(shape)
        else:
            return permutation(key, n)[:count].reshape(shape)
    else:
        index = _weighted(key, n, shape, count, replace, p)
    return index if values is None else fnp.take(values, index, axis=axis)


def _weighted(key: Key, n: int, shape: tuple[int, ...], count: int, replace: bool, p: Any) -> Value:
    prob = fnp.asarray(p)
    if not dtypes.is_float(prob.dtype):
        prob = prob.astype(dtypes.default_float())
    if prob.shape != (n,):
        raise ShapeError(f"choice: p must have the shape [{n}], got {prob.aval}")
    if replace:
        total = fnp.cumsum(prob)
        r = total[-1] * (np.asarray(1, prob.dtype) - uniform(key, shape, prob.dtype))
        return fnp.searchsorted(total, r).astype(dtypes.default_int())
    g = gumbel(key, (n,), prob.dtype) + lax.log(prob)
    return lax.top_k(g, count)[1].astype(dtypes.default_int()).reshape(shape)


def categorical(key: Key, logits: Any, axis: int = -1, shape: Shape | None = None) -> Value:
    """Indices drawn with probabilities softmax(logits) along an axis.

    Args:
        key: One key.
        logits: Unnormalized log probabilities.
        axis: The axis of the categories.
        shape: Shape of the result; that of `logits` without `axis` where None.

    Returns:
        Integers of that shape.
    """
    values = fnp.asarray(logits)
    axis = ax.one("categorical", axis, values.ndim)
    lead = values.shape[:axis] + values.shape[axis + 1 :]
    sizes = lead if shape is None else ax.shape_of(shape)
    extra = sizes[: len(sizes) - len(lead)]
    if np.broadcast_shapes(sizes, lead) != sizes:
        raise ShapeError(f"categorical: shape {sizes} does not fit the batch shape {lead}")
    full = list(sizes[len(extra) :])
    full.insert(axis, values.shape[axis])
    noise = gumbel(key, (*extra, *full), values.dtype)
    return fnp.argmax(noise + values, axis=axis + len(extra))


def ball(key: Key, d: int, p: float = 2, shape: Shape = (), dtype: Any = None) -> Value:
    """Points ``[*shape, d]`` uniform in the unit ball of the p-norm.

    Source:
        Barthe, Guédon, Mendelson and Naor, *A probabilistic approach to the geometry of the
        ℓₚⁿ-ball*, Annals of Probability 33(2), 2005.
    """
    k1, k2, k3 = split(key, 3)
    sizes = ax.shape_of(shape)
    g = gamma(k1, 1.0 / p, (*sizes, d), dtype)
    signs = rademacher(k2, (*sizes, d), g.dtype)
    e = exponential(k3, sizes, g.dtype)
    powers = signs * g ** (1.0 / p)
    total = fnp.sum(fnp.abs(powers) ** p, axis=-1) + e
    return powers / total[..., None] ** (1.0 / p)
