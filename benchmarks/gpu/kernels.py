"""Programs of fused kernels on a GPU: chains, row-wise operations, optimizer updates, dispatch.

Needs a GPU, CuPy, JAX and PyTorch. `--save` writes `results/gpu_kernels.json`; for the other
options see `peers.py`.
"""

from collections.abc import Callable
from typing import Any

import ml_dtypes
from peers import (
    SMALL,
    Row,
    compiled,
    fg,
    fnp,
    forward_backward,
    in_jax,
    in_torch,
    jax,
    jnp,
    measure_all,
    normal,
    np,
    ours,
    torch,
)

from fgrad import nn, optim

F = torch.nn.functional


def chain(xp: Any, x: Any) -> Any:
    """Ten operations, three of them transcendental."""
    return xp.tanh(x) * xp.exp(-0.5 * x * x) + 1.5 * xp.sin(x) - x / (1.0 + x * x)


def chains() -> list[Row]:
    """The chain and its gradient on 64M float32 elements."""
    x = normal(64 << (10 if SMALL else 20))
    fx, jx, tx, gx = ours(x), in_jax(x), in_torch(x), in_torch(x, grad=True)
    f, jf = fg.jit(lambda x: chain(fnp, x)), jax.jit(lambda x: chain(jnp, x))
    tf = compiled(lambda x: chain(torch, x))
    df = fg.jit(fg.grad(lambda x: fnp.sum(chain(fnp, x))))
    jdf = jax.jit(jax.grad(lambda x: jnp.sum(chain(jnp, x))))
    summed = compiled(lambda x: chain(torch, x).sum())
    value = {
        "fgrad": lambda: f(fx),
        "jax": lambda: jf(jx),
        "torch": lambda: chain(torch, tx),
        "torch.compile": lambda: tf(tx),
    }
    gradient = {
        "fgrad": lambda: df(fx),
        "jax": lambda: jdf(jx),
        "torch": lambda: torch.autograd.grad(chain(torch, gx).sum(), gx)[0],
        "torch.compile": lambda: torch.autograd.grad(summed(gx), gx)[0],
    }
    return [
        Row("chain of 64M float32", value, "<= 0.27 ms", 0.269),
        Row("chain of 64M float32, gradient", gradient, "<= 0.55 ms", 0.537),
    ]


def rowwise() -> dict[str, Callable[[], Row]]:
    """Softmax and the normalisations."""
    rows = 164 if SMALL else 16384

    def jax_layer_norm(x: Any, s: Any, b: Any) -> Any:
        wide = x.astype(np.float32)
        c = wide - wide.mean(-1, keepdims=True)
        return (c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-5)).astype(x.dtype) * s + b

    def jax_groups(x: Any, g: Any, b: Any) -> Any:
        wide = x.astype(np.float32).reshape(x.shape[0], 32, -1)
        c = wide - wide.mean(-1, keepdims=True)
        y = (c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-5)).reshape(x.shape)
        return jax.nn.silu((y * g[:, None, None] + b[:, None, None]).astype(x.dtype))

    def softmax() -> Row:
        args = normal(rows, 4096), normal(rows, 4096)
        functions = nn.softmax, jax.nn.softmax, lambda x: F.softmax(x, -1)
        return forward_backward("softmax [16384, 4096] float32", "<= 0.37 ms", 0.358, args,
                                functions)  # fmt: skip

    def layer_norm(dtype: Any, target: str, floor: float, tolerance: float) -> Row:
        args = (
            normal(rows, 4096, dtype=dtype), normal(rows, 4096, dtype=dtype),
            normal(4096, dtype=dtype), normal(4096, dtype=dtype),
        )  # fmt: skip
        functions = nn.layer_norm, jax_layer_norm, lambda x, s, b: F.layer_norm(x, (4096,), s, b)
        name = f"layer norm [16384, 4096] {np.dtype(dtype).name}"
        return forward_backward(name, target, floor, args, functions, tolerance)

    def group_norm() -> Row:
        shape, dtype = (1 if SMALL else 16, 512, 64, 64), ml_dtypes.bfloat16
        args = (normal(*shape, dtype=dtype), normal(*shape, dtype=dtype),
                normal(512, dtype=dtype), normal(512, dtype=dtype))  # fmt: skip
        functions = (
            lambda x, g, b: nn.silu(nn.group_norm(x, 32, g, b)), jax_groups,
            lambda x, g, b: F.silu(F.group_norm(x, 32, g, b)),
        )  # fmt: skip
        return forward_backward("group norm + SiLU [16, 512, 64, 64] bfloat16", "<= 0.15 ms", 0.09,
                                args, functions, 3e-2)  # fmt: skip

    return {
        "softmax": softmax,
        "layer norm float32": lambda: layer_norm(np.float32, "<= 0.42 ms", 0.358, 1e-4),
        "layer norm bfloat16": lambda: layer_norm(ml_dtypes.bfloat16, "<= 0.25 ms", 0.179, 3e-2),
        "group norm": group_norm,
    }


def adamw() -> Row:
    """Clipping by the global norm and AdamW, 100M parameters in 200 tensors."""
    sizes = 200, (5_000 if SMALL else 500_000)
    params, grads = ([normal(sizes[1]) for _ in range(sizes[0])] for _ in range(2))
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(1e-3, weight_decay=0.01))

    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    step = fg.jit(update, donate_argnums=(0, 1))
    held = [ours(params)]
    held.append(fg.tree.map(lambda x: ours(np.asarray(x)), optimizer.init(params)))
    fgrads = ours(grads)

    def run() -> Any:
        held[0], held[1] = step(held[0], held[1], fgrads)
        return held[0]

    def jax_update(params: Any, m: Any, v: Any, count: Any, grads: Any) -> Any:
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads))
        grads = [g / jnp.maximum(norm, 1.0) for g in grads]
        count = count + 1
        m = [0.9 * a + 0.1 * g for a, g in zip(m, grads, strict=True)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, grads, strict=True)]
        c1, c2 = 1 - 0.9**count, 1 - 0.999**count
        new = [
            p - 1e-3 * ((a / c1) / (jnp.sqrt(b / c2) + 1e-8) + 0.01 * p)
            for p, a, b in zip(params, m, v, strict=True)
        ]
        return new, m, v, count

    jax_step = jax.jit(jax_update, donate_argnums=(0, 1, 2))
    zeros = [np.zeros_like(p) for p in params]
    kept = [in_jax(params), in_jax(zeros), in_jax(zeros), jnp.float32(0)]
    jgrads = in_jax(grads)

    def jax_run() -> Any:
        kept[:] = jax_step(*kept, jgrads)
        return kept[0]

    tparams, tgrads = in_torch(params, grad=True), in_torch(grads)
    fused = torch.optim.AdamW(tparams, lr=1e-3, weight_decay=0.01, fused=True)

    def torch_run() -> Any:
        for p, g in zip(tparams, tgrads, strict=True):
            p.grad = g
        torch.nn.utils.clip_grad_norm_(tparams, 1.0, foreach=True)
        fused.step()
        return tparams

    return Row(
        "clip + AdamW, 200 tensors, 100M float32",
        {"fgrad": run, "jax": jax_run, "torch": torch_run},
        "<= 1.12 ms",
        1.07,
    )


def dispatch() -> Row:
    """A cached call of a function of one number."""
    x = np.float32(1)
    fx, jx, tx = ours(x), in_jax(x), in_torch(np.asarray(x))
    f, jf = fg.jit(lambda x: x + 1.0), jax.jit(lambda x: x + 1.0)
    return Row(
        "cached dispatch, scalar",
        {"fgrad": lambda: f(fx), "jax": lambda: jf(jx), "torch": lambda: tx + 1.0},
        "<= 0.010 ms",
    )


def main() -> None:
    """Measure all rows."""
    makers = {"chains": chains, **rowwise(), "AdamW": adamw, "dispatch": dispatch}
    measure_all("gpu_kernels", makers)


if __name__ == "__main__":
    main()
