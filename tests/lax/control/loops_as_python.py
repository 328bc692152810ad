"""The same loops written in Python: the oracle of the control-flow tests."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp


def scan(f: Callable[..., Any], init: Any, xs: Any, length: int | None = None, *,
         reverse: bool = False) -> tuple[Any, Any]:  # fmt: skip
    """`lax.scan` as a Python loop."""
    n = length if length is not None else len(fg.tree.leaves(xs)[0])
    carry, ys = init, []
    for i in reversed(range(n)) if reverse else range(n):
        carry, y = f(carry, fg.tree.map(lambda x, i=i: x[i], xs))
        ys.append(y)
    ys = ys[::-1] if reverse else ys
    return carry, fg.tree.map(lambda *rows: fnp.stack(rows), *ys)


def assert_trees_close(got: Any, want: Any, rtol: float = 1e-9) -> None:
    """Every leaf close, in value, shape and dtype; the same tree."""
    a, b = fg.tree.leaves(got), fg.tree.leaves(want)
    assert fg.tree.structure(got) == fg.tree.structure(want)
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=1e-12)


def transforms() -> dict[str, Callable[..., Any]]:
    """``f(*args) -> scalar`` under each transform and nesting; args are float64 arrays."""
    every = (0, 1, 2)

    def total(tree: Any) -> Any:
        return sum(fnp.sin(x).sum() for x in fg.tree.leaves(tree))

    def batch(*args: Any) -> tuple[Any, ...]:
        return tuple(fnp.stack([a, a * 0.5 - 0.1, -a]) for a in args)

    def middle(f: Callable[..., Any]) -> Callable[..., Any]:
        return fg.vmap(f, in_axes=(None, 0, None))

    def with_batch(g: Callable[..., Any]) -> Callable[..., Any]:
        return lambda w, c, x: g(w, *batch(c), x)

    return {
        "value": lambda f: f,
        "jit": lambda f: fg.jit(f),
        "grad": lambda f: fg.grad(f, every),
        "jit_grad": lambda f: fg.jit(fg.grad(f, every)),
        "grad_jit": lambda f: fg.grad(fg.jit(f), every),
        "jvp": lambda f: lambda *a: fg.jvp(f, a, tuple(x + 0.5 for x in a)),
        "linearize": lambda f: lambda *a: fg.linearize(f, *a)[1](*(x + 0.5 for x in a)),
        "jvp_grad": lambda f: lambda *a: fg.jvp(fg.grad(f, every), a, tuple(x + 0.5 for x in a)),
        "grad_grad": lambda f: fg.grad(lambda *a: total(fg.grad(f, every)(*a)), every),
        "grad_jvp": lambda f: fg.grad(lambda *a: fg.jvp(f, a, tuple(x * 0.5 for x in a))[1], every),
        "jit_grad_grad": lambda f: fg.jit(fg.grad(lambda *a: total(fg.grad(f, every)(*a)), every)),
        "vmap": lambda f: lambda *a: fg.vmap(f)(*batch(*a)),
        "vmap_grad": lambda f: lambda *a: fg.vmap(fg.grad(f, every))(*batch(*a)),
        "vmap_some_grad": lambda f: with_batch(middle(fg.grad(f, every))),
        "grad_vmap": lambda f: with_batch(fg.grad(lambda *a: middle(f)(*a).sum(), every)),
        "jit_jvp_grad_vmap": lambda f: fg.jit(
            with_batch(
                lambda *a: fg.jvp(
                    fg.grad(lambda *b: middle(f)(*b).sum(), every), a, tuple(x + 1 for x in a)
                )
            )
        ),
        "hessian": lambda f: fg.hessian(f, 1),
        "checkpoint": lambda f: fg.grad(fg.checkpoint(f), every),
        "grad_grad_checkpoint": lambda f: fg.grad(
            lambda *a: total(fg.grad(fg.checkpoint(f), every)(*a)), every
        ),
    }
