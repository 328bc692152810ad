"""Compiled elementwise chains, row-wise operations and optimizer updates."""

import functools
from typing import Any

from peers import (
    THREADS,
    VERSIONS,
    Row,
    agree,
    blocked,
    fg,
    fnp,
    in_jax,
    in_torch,
    jax,
    jnp,
    np,
    ours,
    report,
    torch,
)

from fgrad import nn, optim

F = torch.nn.functional


def chain(xp: Any, x: Any) -> Any:
    """Ten operations, three of them transcendental."""
    return xp.tanh(x) * xp.exp(-0.5 * x * x) + 1.5 * xp.sin(x) - x / (1.0 + x * x)


def elementwise(n: int, number: int) -> list[Row]:
    """The chain and its gradient on n float32 elements."""
    x = np.random.default_rng(0).normal(size=n).astype(np.float32)
    fx, jx, tx = ours(x), in_jax(x), in_torch(x)
    gx = in_torch(x, grad=True)
    f = fg.jit(lambda x: chain(fnp, x))
    jf = blocked(jax.jit(lambda x: chain(jnp, x)))
    tf = torch.compile(lambda x: chain(torch, x))
    value = {
        "fgrad": lambda: f(fx),
        "jax": lambda: jf(jx),
        "torch": lambda: chain(torch, tx),
        "torch.compile": lambda: tf(tx),
        "numpy": lambda: chain(np, x),
    }
    df = fg.jit(fg.grad(lambda x: fnp.sum(chain(fnp, x))))
    jdf = blocked(jax.jit(jax.grad(lambda x: jnp.sum(chain(jnp, x)))))
    compiled = torch.compile(lambda x: chain(torch, x).sum())

    def by_hand() -> Any:
        t, e = np.tanh(x), np.exp(-0.5 * x * x)
        s = 1.0 + x * x
        return (1 - t * t) * e - t * e * x + 1.5 * np.cos(x) - (1 - x * x) / (s * s)

    gradient = {
        "fgrad": lambda: df(fx),
        "jax": lambda: jdf(jx),
        "torch": lambda: torch.autograd.grad(chain(torch, gx).sum(), gx)[0],
        "torch.compile": lambda: torch.autograd.grad(compiled(gx), gx)[0],
        "numpy": by_hand,
    }
    target = {10**3: "4x", 10**5: "1.4x", 10**7: "3x"}[n]
    rows = [
        Row(f"elementwise chain, {n:,}", value, f"{target} faster", number),
        Row(f"elementwise chain, gradient, {n:,}", gradient, f"{target} faster", number),
    ]
    for row in rows:
        agree(row.contenders)
    return rows


def rowwise() -> list[Row]:
    """Softmax and the normalisations, forward and backward, over rows of 1,024."""
    rng = np.random.default_rng(1)
    x, ct = (rng.normal(size=(4096, 1024)).astype(np.float32) for _ in range(2))
    scale, bias = (rng.normal(size=1024).astype(np.float32) for _ in range(2))
    image, image_ct = (rng.normal(size=(8, 64, 64, 64)).astype(np.float32) for _ in range(2))
    gain, shift = (rng.normal(size=64).astype(np.float32) for _ in range(2))

    def jax_norm(x: Any, axes: Any, center: bool = True) -> Any:
        c = x - x.mean(axes, keepdims=True) if center else x
        return c * jax.lax.rsqrt((c * c).mean(axes, keepdims=True) + 1e-5)

    def jax_groups(x: Any, g: Any, b: Any) -> Any:
        y = jax_norm(x.reshape(8, 8, -1), (2,)).reshape(x.shape)
        return jax.nn.silu(y * g[:, None, None] + b[:, None, None])

    def groups(x: Any, g: Any, b: Any) -> Any:
        return nn.silu(nn.group_norm(x, 8, g, b))

    cases = [
        ("softmax", "1.4x", ct, (x,), nn.softmax, jax.nn.softmax, lambda x: F.softmax(x, -1)),
        ("layer norm", "2x", ct, (x, scale, bias), nn.layer_norm,
         lambda x, s, b: jax_norm(x, -1) * s + b, lambda x, s, b: F.layer_norm(x, (1024,), s, b)),
        ("RMS norm", "2x", ct, (x, scale), lambda x, s: nn.rms_norm(x, s, eps=1e-5),
         lambda x, s: jax_norm(x, -1, center=False) * s,
         lambda x, s: F.rms_norm(x, (1024,), s, 1e-5)),
        ("group norm + SiLU", "2x", image_ct, (image, gain, shift), groups, jax_groups,
         lambda x, g, b: F.silu(F.group_norm(x, 8, g, b))),
    ]  # fmt: skip
    rows = [_forward_backward(f"{name}, forward + backward", *rest) for name, *rest in cases]
    for row in rows:
        agree(row.contenders)
    return rows


def _forward_backward(
    name: str, target: str, ct: Any, args: Any, f: Any, jax_f: Any, torch_f: Any
) -> Row:
    def ours_of(pull: Any, f: Any) -> Any:
        def both(ct: Any, *args: Any) -> Any:
            out, back = pull(f, *args)
            return out, back(ct)

        return both

    run = fg.jit(ours_of(fg.vjp, f))
    jax_run = blocked(jax.jit(ours_of(jax.vjp, jax_f)))
    compiled = torch.compile(torch_f)
    fargs, jargs, targs = ours((ct, *args)), in_jax((ct, *args)), in_torch(args, grad=True)
    tct = in_torch(ct)

    def in_torch_of(f: Any) -> Any:
        def both() -> Any:
            out = f(*targs)
            return out, torch.autograd.grad(out, targs, tct)

        return both

    return Row(
        name,
        {
            "fgrad": lambda: run(*fargs),
            "jax": lambda: jax_run(*jargs),
            "torch": in_torch_of(torch_f),
            "torch.compile": in_torch_of(compiled),
        },
        f"{target} faster",
        number=3,
    )


def adamw() -> Row:
    """An AdamW step over 10M parameters in 200 tensors."""
    rng = np.random.default_rng(2)
    params = [rng.normal(size=50_000).astype(np.float32) for _ in range(200)]
    grads = [rng.normal(size=50_000).astype(np.float32) for _ in range(200)]
    optimizer = optim.adamw(1e-3, weight_decay=0.01)

    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    step = fg.jit(update, donate_argnums=(0, 1))
    held = [ours(params)]
    held.append(optimizer.init(held[0]))
    fgrads = ours(grads)

    def run() -> Any:
        held[0], held[1] = step(held[0], held[1], fgrads)

    def jax_update(params: Any, m: Any, v: Any, count: Any, grads: Any) -> Any:
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
        kept[:] = jax.block_until_ready(jax_step(*kept, jgrads))

    tparams = in_torch(params, grad=True)
    for p, g in zip(tparams, in_torch(grads), strict=True):
        p.grad = g
    fused = torch.optim.AdamW(tparams, lr=1e-3, weight_decay=0.01, fused=True)
    return Row(
        "AdamW step, 10M parameters in 200 tensors",
        {"fgrad": run, "jax": jax_run, "torch": lambda: fused.step()},
        "1.2x faster than torch's fused one",
        number=3,
    )


def lookups() -> list[Row]:
    """Rows, elements and elements along an axis, at random places; and rows in a scan.

    Places are int32 for everyone, as JAX has them, but where PyTorch accepts int64 alone.
    """
    rng = np.random.default_rng(3)
    table, flat, square = (
        rng.normal(size=s).astype(np.float32) for s in ((20_000, 128), 10**6, (1000, 1000))
    )
    rows = rng.integers(0, 20_000, 4096).astype(np.int32)
    places, along = (
        rng.integers(0, n, s, np.int32) for n, s in ((10**6, 10**6), (1000, (1000, 1000)))
    )
    wide = torch.from_numpy(along.astype(np.int64))

    def summed(xp: Any, scan: Any) -> Any:
        def f(table: Any, rows: Any) -> Any:
            return scan(lambda c, i: (c + table[i], None), xp.zeros(128, np.float32), rows)[0]

        return f

    def one_by_one(table: Any, rows: Any) -> Any:
        total = table[0] * 0
        for i in rows:
            total = total + table[i]
        return total

    cases = {
        "embedding lookup, 4,096 rows of 128": (
            (table, rows), lambda t, i: nn.embedding(i, t), lambda t, i: t[i],
            lambda t, i: F.embedding(i, t), lambda t, i: t[i], 20,
        ),
        "x[i], 1,000,000 elements": (
            (flat, places), lambda x, i: x[i], lambda x, i: x[i], lambda x, i: x[i],
            lambda x, i: x[i], 3,
        ),
        "take_along_axis, 1,000 rows of 1,000": (
            (square, along), lambda x, i: fnp.take_along_axis(x, i, 1),
            lambda x, i: jnp.take_along_axis(x, i, 1),
            lambda x, _: torch.take_along_dim(x, wide, 1),
            lambda x, i: np.take_along_axis(x, i, 1), 3,
        ),
        "scan of 4,096 embedding lookups": (
            (table, rows), summed(fnp, fg.lax.scan), summed(jnp, jax.lax.scan), one_by_one,
            one_by_one, 1,
        ),
    }  # fmt: skip
    found = []
    for name, (args, ours_, in_jax_, in_torch_, by_numpy, number) in cases.items():
        contenders = {}
        for library, function, given in (
            ("fgrad", fg.jit(ours_), ours(args)), ("jax", blocked(jax.jit(in_jax_)), in_jax(args)),
            ("torch", in_torch_, in_torch(args)), ("numpy", by_numpy, args),
        ):  # fmt: skip
            contenders[library] = functools.partial(function, *given)
        agree(contenders)
        found.append(Row(name, contenders, "1.0x", number))
    return found


def main() -> None:
    """Measure all rows."""
    rows = [*elementwise(10**3, 200), *elementwise(10**5, 50), *elementwise(10**7, 1)]
    rows += [*rowwise(), adamw(), *lookups()]
    report("cpu_elementwise", [r.measure() for r in rows], {**VERSIONS, "threads": str(THREADS)})


if __name__ == "__main__":
    main()
