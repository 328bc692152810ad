"""Derivatives of flat functions, as flat functions: what the laws are stated in.

A *flat function* takes values and returns a list of values. Each function here returns another,
so that laws of higher order are the same laws applied to derivatives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import MappedAxis, Value
from fgrad.core.tracing import entering
from fgrad.core.transforms.batch import batch_flat, batch_to
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.stage import eval_jaxpr, stage

Array = np.ndarray[Any, np.dtype[Any]]
Flat = Callable[..., list[Value]]


def values(arrays: Sequence[Array]) -> list[Value]:
    """Arrays as values."""
    return [as_value(x) for x in arrays]


def arrays_of(results: Sequence[Value]) -> list[Array]:
    """The NumPy arrays of concrete results."""
    out = []
    for x in results:
        assert type(x) is ArrayImpl, f"the result {x!r} is not concrete"
        out.append(x._data)
    return out


def evaluate(f: Flat, xs: Sequence[Array]) -> list[Array]:
    """The results of f at arrays."""
    return arrays_of(f(*values(xs)))


def on_arrays(f: Flat) -> Callable[..., list[Array]]:
    """The function as one of arrays, to be called often."""

    def run(*xs: Array) -> list[Array]:
        with entering():  # floating-point warnings are switched off once
            return evaluate(f, xs)

    return run


def inexact_only(f: Flat) -> Flat:
    """The function without its integer and boolean results, which have no derivative."""
    return lambda *xs: [y for y in f(*xs) if dtypes.is_inexact(y.dtype)]


def pushforward(f: Flat, count: int) -> Flat:
    """(xs, vs) → J(xs)·vs by forward mode; the first `count` arguments are xs."""

    def push(*args: Value) -> list[Value]:
        outs, tangents = jvp_flat(f, args[:count], args[count:])
        return [basis.instantiate(t, y) for t, y in zip(tangents, outs, strict=True)]

    return push


def linearized(f: Flat, count: int) -> Flat:
    """(xs, vs) → J(xs)·vs by the linear equations that `linearize` records."""

    def push(*args: Value) -> list[Value]:
        outs, tape = record_flat(f, args[:count], [True] * count, linear=True)
        tangents = tape.forward(args[count:])
        return [basis.instantiate(t, y) for t, y in zip(tangents, outs, strict=True)]

    return push


def pullback(f: Flat, count: int, *, derived: bool = False) -> Flat:
    """(xs, cts) → J(xs)ᵀ·cts by reverse mode; the first `count` arguments are xs.

    Args:
        f: The function.
        count: How many xs there are.
        derived: Transpose the jvp rules instead of using the primitives' own vjp rules.
    """

    def pull(*args: Value) -> list[Value]:
        xs = args[:count]
        _, tape = record_flat(f, xs, [True] * count, linear=derived)
        cts = tape.backward(args[count:], consume=False)
        return [basis.instantiate(ct, as_value(x)) for ct, x in zip(cts, xs, strict=True)]

    return pull


def at(f: Flat, *fixed: Array) -> Flat:
    """The function with its last arguments fixed."""
    return lambda *xs: f(*xs, *values(fixed))


def batched(f: Flat, size: int, dims: Sequence[int | None]) -> Flat:
    """`vmap` of f: every result has the batch as its first axis."""
    return lambda *xs: batch_to(f, MappedAxis(None, size, object()), xs, dims)


def batched_as_is(
    f: Flat, size: int, dims: Sequence[int | None], xs: Sequence[Value]
) -> tuple[list[Value], list[int | None]]:
    """`vmap` of f at xs: each result and the axis at which its rule left the batch."""
    return batch_flat(f, MappedAxis(None, size, object()), xs, dims)


def staged(f: Flat) -> Flat:
    """The function through a jaxpr, equation by equation."""

    def run(*xs: Value) -> list[Value]:
        jaxpr, consts = stage(f, [as_value(x).aval for x in xs])
        return eval_jaxpr(jaxpr, consts, *xs)

    return run


def random_like(rng: np.random.Generator, x: Array) -> Array:
    """Elements in [-1, 1] (of both parts, where complex), of the shape and dtype of x."""
    v = np.asarray(rng.uniform(-1.0, 1.0, x.shape))
    if x.dtype.kind == "c":
        v = v + 1j * rng.uniform(-1.0, 1.0, x.shape)
    return np.asarray(v).astype(x.dtype)


def basis_like(rng: np.random.Generator, xs: Sequence[Array]) -> list[Array]:
    """A random basis vector of the space of xs: one element is 1 (or i), the others 0."""
    out = [np.zeros_like(x) for x in xs]
    filled = [x for x in out if x.size]
    if filled:
        x = filled[int(rng.integers(len(filled)))]
        one = 1j if x.dtype.kind == "c" and rng.integers(2) else 1
        x.reshape(-1)[int(rng.integers(x.size))] = one
    return out


def pairing(cts: Sequence[Array], vs: Sequence[Array]) -> tuple[float, float]:
    """Re Σ ct·v, without conjugation, and Σ|ct||v|, which bounds its rounding."""
    total = terms = 0.0
    for ct, v in zip(cts, vs, strict=True):
        wide = np.complex128 if ct.dtype.kind == "c" or v.dtype.kind == "c" else np.float64
        product = ct.astype(wide) * v.astype(wide)
        total += float(np.sum(product).real)
        terms += float(np.sum(np.abs(product)))
    return total, terms
