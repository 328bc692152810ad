"""The language itself: import, un-jitted gradients, tracing, nested gradients, dispatch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
sys.path.insert(0, str(Path(__file__).parents[1]))

import autograd
import autograd.numpy as anp
import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import Row, report

import fgrad as fg
import fgrad.numpy as fnp

torch.set_num_threads(1)
SIZES = ((64, 128), (128, 128), (128, 10))


def loss_over(xp: Any) -> Any:
    """Cross-entropy of a 3-layer perceptron, written with one array namespace."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        for w, b in params[:-1]:
            x = xp.tanh(xp.dot(x, w) + b)
        w, b = params[-1]
        logits = xp.dot(x, w) + b
        top = xp.max(logits, axis=1, keepdims=True)
        lse = xp.log(xp.sum(xp.exp(logits - top), axis=1, keepdims=True)) + top
        return -xp.mean(xp.sum(y * (logits - lse), axis=1))

    return loss


def mlp() -> Row:
    """The gradient of the perceptron, not compiled."""
    rng = np.random.default_rng(0)
    params = [
        (rng.normal(size=s).astype(np.float32) * 0.1, np.zeros(s[1], np.float32)) for s in SIZES
    ]
    x = rng.normal(size=(32, 64)).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 32)]

    ours, theirs = fg.grad(loss_over(fnp)), autograd.grad(loss_over(anp))
    in_jax = jax.grad(loss_over(jnp))
    fp, fx, fy = ([tuple(map(fnp.asarray, p)) for p in params], fnp.asarray(x), fnp.asarray(y))
    jp, jx, jy = ([tuple(map(jnp.asarray, p)) for p in params], jnp.asarray(x), jnp.asarray(y))
    tp = [[torch.tensor(a, requires_grad=True) for a in p] for p in params]
    tx, ty = torch.tensor(x), torch.tensor(y)

    def in_torch() -> Any:
        h = tx
        for w, b in tp[:-1]:
            h = torch.tanh(h @ w + b)
        w, b = tp[-1]
        logits = h @ w + b
        top = logits.max(1, keepdim=True).values
        lse = torch.log(torch.sum(torch.exp(logits - top), 1, keepdim=True)) + top
        value = -(ty * (logits - lse)).sum(1).mean()
        return torch.autograd.grad(value, [a for p in tp for a in p])

    return Row(
        "un-jitted grad of a 3-layer MLP",
        {
            "fgrad": lambda: ours(fp, fx, fy),
            "autograd": lambda: theirs(params, x, y),
            "torch": in_torch,
            "jax": lambda: in_jax(jp, jx, jy),
        },
        "<= 0.9 of autograd, <= 3 of torch",
    )


def tracing() -> Row:
    """Staging a chain of 100 operations."""

    def chain(xp: Any) -> Any:
        def f(x: Any) -> Any:
            for _ in range(25):
                x = xp.tanh(xp.sin(x * 2.0) + x)
            return x

        return f

    # JAX keeps the program of a function that it has seen: each call gets a new one.
    x, jx = fnp.ones(8), jnp.ones(8)
    return Row(
        "make_jaxpr of 100 operations",
        {
            "fgrad": lambda: fg.make_jaxpr(chain(fnp))(x),
            "jax": lambda: jax.make_jaxpr(chain(jnp))(jx),
        },
        "<= 0.25 of JAX",
        number=5,
    )


def nested() -> Row:
    """The seventh derivative as a program."""

    def seventh(transform: Any, f: Any) -> Any:
        for _ in range(7):
            f = transform(f)
        return f

    def ours() -> Any:
        return fg.make_jaxpr(seventh(fg.grad, lambda x: fnp.tanh(x) * fnp.exp(-(x**2))))(0.5)

    def theirs() -> Any:
        return jax.make_jaxpr(seventh(jax.grad, lambda x: jnp.tanh(x) * jnp.exp(-(x**2))))(0.5)

    counts = (ours().jaxpr.count(), len(theirs().eqns))
    return Row(
        f"grad of order 7 ({counts[0]} / {counts[1]} equations)",
        {"fgrad": ours, "jax": theirs},
        "<= 0.2 of JAX, <= 0.25 of its equations",
        number=1,
    )


def dispatch() -> Row:
    """A cached call of a compiled scalar function."""
    ours, theirs = fg.jit(lambda a, b: a + b), jax.jit(lambda a, b: a + b)
    a, ja = fnp.asarray(1.0), jnp.float32(1.0)
    return Row(
        "cached jit dispatch, two scalars",
        {"fgrad": lambda: ours(a, a), "jax": lambda: theirs(ja, ja).block_until_ready()},
        "<= 2 of JAX",
        number=500,
    )


def imports() -> dict[str, Any]:
    """Import time beside NumPy's, in fresh processes, the least of several."""

    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def seconds(module: str) -> float:
        code = (
            f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        )
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
            )
            for _ in range(9)
        ]
        return min(float(r.stdout) for r in runs) * 1e6

    times = {"fgrad": seconds("fgrad"), "numpy": seconds("numpy"), "jax": seconds("jax")}
    ratios = {k: times["fgrad"] / v for k, v in times.items() if k != "fgrad"}
    return {"row": "import", "us": times, "fgrad / peer": ratios, "target": "<= 1.6 of NumPy"}


def main() -> None:
    """Measure all rows."""
    rows = [imports(), *(make().measure() for make in (mlp, tracing, nested, dispatch))]
    versions = {m.__name__: str(m.__version__) for m in (fg, np, jax, torch)}
    versions["autograd"] = getattr(autograd, "__version__", "1.8")
    report("language", rows, versions)


if __name__ == "__main__":
    main()
