"""Compare a function of fgrad with the same function of JAX, in float64: every transform."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fgrad.core import basis, dtypes
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import MappedAxis
from fgrad.core.transforms.batch import batch_to
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.stage import eval_jaxpr, stage


def flat(f: Callable[..., Any]) -> Callable[..., list[Any]]:
    """`f` with a list as its result."""

    def g(*args: Any) -> list[Any]:
        out = f(*args)
        return list(out) if isinstance(out, (list, tuple)) else [out]

    return g


def random_like(rng: np.random.Generator, x: Any) -> np.ndarray:
    """Normal values of the shape and dtype of `x`."""
    out = rng.standard_normal(x.shape)
    if np.dtype(x.dtype).kind == "c":
        out = out + 1j * rng.standard_normal(x.shape)
    return np.asarray(out, x.dtype)


def pullback(f: Callable[..., list[Any]], *, linear: bool = False) -> Callable[..., list[Any]]:
    """``(args, cts) -> cts`` of a flat function."""

    def g(args: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        _, tape = record_flat(f, args, [True] * len(args), linear=linear)
        back = tape.backward(list(cts), consume=False)
        return [basis.instantiate(c, a) for c, a in zip(back, args, strict=True)]

    return g


def pushforward(f: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """``(args, tangents) -> tangents`` of a flat function; integer results have none."""

    def g(args: Sequence[Any], ts: Sequence[Any]) -> list[Any]:
        outs, tangents = jvp_flat(f, args, ts)
        return [
            basis.instantiate(t, o)
            for t, o in zip(tangents, outs, strict=True)
            if dtypes.is_inexact(o.dtype)
        ]

    return g


def data(values: Sequence[Any]) -> list[np.ndarray]:
    """The NumPy buffers of concrete values."""
    return [as_value(v)._data for v in values]


def close(ours: Sequence[Any], theirs: Sequence[Any], rtol: float, what: str) -> None:
    """Assert equality of lists of arrays, shapes and dtypes included."""
    assert len(ours) == len(theirs), what
    for i, (a, b) in enumerate(zip(data(ours), theirs, strict=True)):
        b = np.asarray(b)
        assert a.shape == b.shape, f"{what} [{i}]: shape {a.shape}, JAX {b.shape}"
        assert a.dtype == b.dtype, f"{what} [{i}]: dtype {a.dtype}, JAX {b.dtype}"
        if b.dtype.kind in "fc":
            scale = rtol * max(1.0, float(np.max(np.abs(b), initial=0.0)))
            np.testing.assert_allclose(a, b, rtol=rtol, atol=scale, err_msg=f"{what} [{i}]")
        else:
            np.testing.assert_array_equal(a, b, err_msg=f"{what} [{i}]")


def check(
    f: Callable[..., Any],
    jf: Callable[..., Any],
    args: Sequence[np.ndarray],
    *,
    order: int = 2,
    batch: bool = True,
    rtol: float = 1e-10,
    seed: int = 0,
) -> None:
    """Value, forward and reverse mode, second order, staging and every vmap, against JAX."""
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(seed)
    f, jf = flat(f), flat(jf)
    with jax.enable_x64(True):
        values = [as_value(a) for a in args]
        outs = f(*values)
        expected = jax.jit(jf)(*args)
        close(outs, expected, rtol, "value")
        jaxpr, consts = stage(f, [v.aval for v in values])
        close(eval_jaxpr(jaxpr, consts, *values), expected, rtol, "staged")
        if order:
            _derivatives(jax, rng, f, jf, args, outs, order, rtol)
        if batch:
            _batches(jax, rng, f, jf, args, rtol)
            if order:
                _batched_pullback(jax, rng, f, jf, args, outs, rtol)


def _jax_functions(jax: Any, jf: Any, inexact: Sequence[bool]) -> tuple[Any, Any]:
    def kept(*a: Any) -> list[Any]:
        return [o for o, k in zip(jf(*a), inexact, strict=True) if k]

    def push(a: Any, t: Any) -> Any:
        return jax.jvp(kept, tuple(a), tuple(t))[1]

    def pull(a: Any, c: Any) -> Any:
        return list(jax.vjp(kept, *a)[1](list(c)))

    return push, pull


def _derivatives(
    jax: Any, rng: Any, f: Any, jf: Any, args: Any, outs: Any, order: int, rtol: float
) -> None:
    inexact = [dtypes.is_inexact(o.dtype) for o in outs]
    push, pull = _jax_functions(jax, jf, inexact)

    def kept(*a: Any) -> list[Any]:
        return [o for o, k in zip(f(*a), inexact, strict=True) if k]

    n = len(args)
    ts = [random_like(rng, a) for a in args]
    cts = [random_like(rng, o) for o, k in zip(outs, inexact, strict=True) if k]
    v, vt, vc = ([as_value(x) for x in xs] for xs in (args, ts, cts))
    close(pushforward(kept)(v, vt), jax.jit(push)(args, ts), rtol, "jvp")
    expected = jax.jit(pull)(args, cts)
    close(pullback(kept)(v, vc), expected, rtol, "vjp")
    close(pullback(kept, linear=True)(v, vc), expected, rtol, "linearize and transpose")
    for i in range(n):
        one = [t if i == j else None for j, t in enumerate(vt)]
        zero = [t if i == j else np.zeros_like(t) for j, t in enumerate(ts)]
        close(pushforward(kept)(v, one), jax.jit(push)(args, zero), rtol, f"jvp in operand {i}")
    if order < 2:
        return
    us = [random_like(rng, a) for a in args]
    ds = [random_like(rng, c) for c in cts]
    vu, vd = [as_value(u) for u in us], [as_value(d) for d in ds]

    def gradient(*ac: Any) -> list[Any]:
        return pullback(kept)(ac[:n], ac[n:])

    def jgradient(*ac: Any) -> Any:
        return pull(ac[:n], ac[n:])

    close(
        pushforward(gradient)(v + vc, vt + vd),
        jax.jit(lambda a, t: jax.jvp(jgradient, a, t)[1])((*args, *cts), (*ts, *ds)),
        rtol * 10, "forward over reverse",
    )  # fmt: skip
    close(
        pullback(gradient)(v + vc, vu),
        jax.jit(lambda a, u: list(jax.vjp(jgradient, *a)[1](list(u))))((*args, *cts), us),
        rtol * 10, "reverse over reverse",
    )  # fmt: skip


def _batches(jax: Any, rng: Any, f: Any, jf: Any, args: Any, rtol: float) -> None:
    choices = [[None, *range(a.ndim + 1)] for a in args]
    plans = [[None] * len(args) for _ in range(0)]
    for i, options in enumerate(choices):
        plans += [[d if j == i else None for j in range(len(args))] for d in options[1:]]
    plans += [[0] * len(args), [a.ndim for a in args]]
    if len(args) > 1:
        plans.append([0 if i % 2 else a.ndim for i, a in enumerate(args)])
    for dims in plans:
        for size in (2, 1):
            batched = [
                a if d is None
                else np.stack([perturbed(rng, a) for _ in range(size)], d)
                for a, d in zip(args, dims, strict=True)
            ]  # fmt: skip
            axis = MappedAxis(None, size, object())
            ours = batch_to(f, axis, [as_value(b) for b in batched], dims)
            theirs = jax.jit(jax.vmap(jf, in_axes=tuple(dims)))(*batched)
            close(ours, theirs, rtol, f"vmap over {dims}")


def perturbed(rng: Any, a: np.ndarray) -> np.ndarray:
    """`a` with its elements moved a little, where they are not integers."""
    if a.dtype.kind not in "fc":
        return a
    return a + np.asarray(0.05 * random_like(rng, a), a.dtype)


def _batched_pullback(
    jax: Any, rng: Any, f: Any, jf: Any, args: Any, outs: Any, rtol: float
) -> None:
    inexact = [dtypes.is_inexact(o.dtype) for o in outs]
    _, pull = _jax_functions(jax, jf, inexact)

    def kept(*a: Any) -> list[Any]:
        return [o for o, k in zip(f(*a), inexact, strict=True) if k]

    n = len(args)
    cts = [random_like(rng, o) for o, k in zip(outs, inexact, strict=True) if k]
    batch = [np.stack([perturbed(rng, a) for _ in range(3)]) for a in args]
    axis = MappedAxis(None, 3, object())
    dims = [0] * n + [None] * len(cts)
    ours = batch_to(
        lambda *ac: pullback(kept)(ac[:n], ac[n:]), axis,
        [as_value(x) for x in (*batch, *cts)], dims,
    )  # fmt: skip
    theirs = jax.jit(jax.vmap(lambda a: pull(a, cts)))(batch)
    close(ours, theirs, rtol, "vmap of vjp")
