"""Compiled layers and training steps, and derivatives of other orders."""

import math
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
from stream_blocks import JaxOps, Sizes, TorchOps, our_loss, params_of, peer_loss, tokens_of

from fgrad import lax, nn

F = torch.nn.functional
RNG = np.random.default_rng(0)


def normal(*shape: int, scale: float = 1.0) -> Any:
    """Random float32 numbers."""
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def gradients(
    name: str, args: Any, f: Any, jax_f: Any, torch_f: Any, target: str, number: int = 3,
    tolerance: float = 2e-3,
) -> Row:  # fmt: skip
    """Value and gradients, in all arguments, of a scalar function of arrays."""
    everything = tuple(range(len(args)))
    run = fg.jit(fg.value_and_grad(f, argnums=everything))
    jax_run = blocked(jax.jit(jax.value_and_grad(jax_f, argnums=everything)))
    fargs, jargs, targs = ours(args), in_jax(args), in_torch(args, grad=True)
    leaves = jax.tree.leaves(targs)
    compiled = torch.compile(torch_f)

    def in_torch_of(f: Any) -> Any:
        def both() -> Any:
            value = f(*targs)
            return value, torch.autograd.grad(value, leaves)

        return both

    row = Row(
        name,
        {
            "fgrad": lambda: run(*fargs),
            "jax": lambda: jax_run(*jargs),
            "torch": in_torch_of(torch_f),
            "torch.compile": in_torch_of(compiled),
        },
        target,
        number,
    )
    agree(row.contenders, tolerance)
    return row


def dense() -> Row:
    """Product, bias and GELU."""
    args = (normal(512, 768), normal(768, 3072, scale=0.03), normal(3072))
    return gradients(
        "matmul + bias + GELU, forward + backward",
        args,
        lambda x, w, b: fnp.sum(fnp.square(nn.gelu(x @ w + b))),
        lambda x, w, b: jnp.sum(jnp.square(jax.nn.gelu(x @ w + b))),
        lambda x, w, b: F.gelu(x @ w + b, approximate="tanh").square().sum(),
        "1.0x",
    )


def attention() -> Row:
    """Softmax attention: batch 4, 256 positions, 8 heads of 64."""
    args = tuple(normal(4, 256, 8, 64) for _ in range(3))

    def in_torch_form(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).square().sum()

    return gradients(
        "attention, forward + backward",
        args,
        lambda q, k, v: fnp.sum(fnp.square(nn.dot_product_attention(q, k, v))),
        lambda q, k, v: jnp.sum(jnp.square(jax.nn.dot_product_attention(q, k, v))),
        in_torch_form,
        "1.0x",
    )


def convolution() -> Row:
    """A 3x3 convolution and a maximum over windows of 2."""
    args = (normal(16, 32, 32, 32), normal(64, 32, 3, 3, scale=0.1))

    def in_jax_form(x: Any, w: Any) -> Any:
        y = jax.lax.conv(x, w, (1, 1), "SAME")
        windows = (1, 1, 2, 2)
        y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, windows, windows, "VALID")
        return jnp.sum(jnp.square(y))

    return gradients(
        "conv 3x3 + max pool, forward + backward",
        args,
        lambda x, w: fnp.sum(fnp.square(nn.max_pool(nn.conv(x, w, padding=1), 2))),
        in_jax_form,
        lambda x, w: F.max_pool2d(F.conv2d(x, w, padding=1), 2).square().sum(),
        "0.85x of torch, 1.3x of JAX",
    )


def perceptron_loss(xp: Any, lse: Any, relu: Any, params: Any, x: Any, y: Any) -> Any:
    """Cross-entropy of 784-512-256-10."""
    for w, b in params[:-1]:
        x = relu(x @ w + b)
    w, b = params[-1]
    logits = x @ w + b
    return xp.mean(lse(logits) - xp.sum(y * logits, axis=-1))


SIZES = ((784, 512), (512, 256), (256, 10))


def mlp_data(batch: int = 128) -> Any:
    """Parameters, images and one-hot labels."""
    params = [(normal(*s, scale=1 / math.sqrt(s[0])), normal(s[1], scale=0.1)) for s in SIZES]
    return params, normal(batch, 784), np.eye(10, dtype=np.float32)[RNG.integers(0, 10, batch)]


def _adam(xp: Any, tree_map: Any, gradient: Any) -> Any:
    """One step of Adam, written once for fgrad and JAX."""

    def step(state: Any, *data: Any) -> Any:
        params, m, v, count = state
        value, g = gradient(params, *data)
        count = count + 1.0
        m = tree_map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = tree_map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        rate = 1e-3 * xp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = tree_map(lambda p, a, b: p - rate * a / (xp.sqrt(b) + 1e-8), params, m, v)
        return (params, m, v, count), value

    return step


CONVERT = {"fgrad": ours, "jax": in_jax, "torch": in_torch}


def adam_step(library: str, loss: Any, params: Any) -> Any:
    """The compiled step of a library, its state donated, and the state to begin with."""
    zeros = jax.tree.map(np.zeros_like, params)
    state = CONVERT[library]((params, zeros, zeros, np.float32(0)))
    if library == "fgrad":
        return fg.jit(_adam(fnp, fg.tree.map, fg.value_and_grad(loss)), donate_argnums=0), state
    step = jax.jit(_adam(jnp, jax.tree.map, jax.value_and_grad(loss)), donate_argnums=0)
    return blocked(step), state


def stepper(parts: Any, library: str, transform: Any = lambda f: f) -> Any:
    """A training step of Adam in one library, as a function that returns the loss.

    Args:
        parts: What `step_of` returns.
        library: It donates the state, or updates it in place, and keeps a state of its own.
        transform: Of the loss, for torch.
    """
    params, data, _, losses = parts
    if library != "torch":
        run, first = adam_step(library, losses[library], params)
        state, inputs = [first], CONVERT[library](data)
        del params, data, first, parts

        def call() -> Any:
            state[0], value = run(state[0], *inputs)
            return value

        return call

    tree, inputs = in_torch(params, grad=True), in_torch(data)
    optimizer = torch.optim.Adam(jax.tree.leaves(tree), lr=1e-3, fused=True)
    f = transform(losses["torch"])

    def call_torch() -> Any:
        optimizer.zero_grad()
        value = f(tree, *inputs)
        value.backward()
        optimizer.step()
        return value

    return call_torch


def training(name: str, step: str, number: int) -> Row:
    """A step of Adam in all libraries."""
    parts = step_of(step)
    contenders = {
        "fgrad": stepper(parts, "fgrad"),
        "jax": stepper(parts, "jax"),
        "torch": stepper(parts, "torch"),
        "torch.compile": stepper(parts, "torch", torch.compile),
    }
    agree(contenders)
    return Row(name, contenders, "1.0x", number)


def _mlp_losses() -> Any:
    libraries = {
        "fgrad": (fnp, lambda z: nn.logsumexp(z, axis=-1), nn.relu),
        "jax": (jnp, lambda z: jax.nn.logsumexp(z, axis=-1), jax.nn.relu),
        "torch": (torch, lambda z: torch.logsumexp(z, -1), torch.relu),
    }
    return {
        name: lambda p, x, y, ops=ops: perceptron_loss(*ops, p, x, y)
        for name, ops in libraries.items()
    }


WIDTH, HEADS, LENGTH, VOCABULARY = 256, 4, 256, 96


def transformer_params(blocks: int = 4) -> Any:
    """Blocks, an embedding, positions and a head."""
    s = 1 / math.sqrt(WIDTH)
    block = lambda: {  # noqa: E731
        "g1": np.ones(WIDTH, np.float32), "b1": np.zeros(WIDTH, np.float32),
        "g2": np.ones(WIDTH, np.float32), "b2": np.zeros(WIDTH, np.float32),
        "qkv": normal(WIDTH, 3 * WIDTH, scale=s), "out": normal(WIDTH, WIDTH, scale=s),
        "up": normal(WIDTH, 4 * WIDTH, scale=s), "down": normal(4 * WIDTH, WIDTH, scale=s / 2),
    }  # fmt: skip
    return {
        "blocks": [block() for _ in range(blocks)],
        "tokens": normal(VOCABULARY, WIDTH, scale=0.02),
        "positions": normal(LENGTH, WIDTH, scale=0.02),
        "head": normal(WIDTH, VOCABULARY, scale=s),
    }


def transformer_loss(ops: Any, params: Any, tokens: Any, targets: Any) -> Any:
    """The loss of a causal character model; `ops` are a library's functions."""
    x = ops["take"](params["tokens"], tokens) + params["positions"]
    batch = tokens.shape[0]
    for p in params["blocks"]:
        h = ops["norm"](x, p["g1"], p["b1"]) @ p["qkv"]
        h = h.reshape(batch, LENGTH, 3, HEADS, WIDTH // HEADS)
        a = ops["attend"](h[:, :, 0], h[:, :, 1], h[:, :, 2])
        x = x + a.reshape(batch, LENGTH, WIDTH) @ p["out"]
        h = ops["norm"](x, p["g2"], p["b2"]) @ p["up"]
        x = x + ops["gelu"](h) @ p["down"]
    return ops["loss"](x @ params["head"], targets)


def _jax_norm(x: Any, g: Any, b: Any) -> Any:
    c = x - x.mean(-1, keepdims=True)
    return c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-5) * g + b


def _jax_loss(z: Any, y: Any) -> Any:
    picked = jnp.take_along_axis(z, y[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - picked)


def _torch_attention(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


OURS = {
    "take": lambda table, i: fnp.take(table, i, axis=0),
    "norm": nn.layer_norm,
    "attend": lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True),
    "gelu": nn.gelu,
    "loss": nn.cross_entropy,
}
JAX = {
    "take": lambda table, i: table[i],
    "norm": _jax_norm,
    "attend": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
    "gelu": jax.nn.gelu,
    "loss": _jax_loss,
}
TORCH = {
    "take": lambda table, i: F.embedding(i, table),
    "norm": lambda x, g, b: F.layer_norm(x, (WIDTH,), g, b),
    "attend": _torch_attention,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "loss": lambda z, y: F.cross_entropy(z.reshape(-1, VOCABULARY), y.reshape(-1).long()),
}


def tokens(batch: int) -> Any:
    """A batch of characters and of those that follow them."""
    return [RNG.integers(0, VOCABULARY, (batch, LENGTH)).astype(np.int32) for _ in range(2)]


TRANSFORMER_LOSSES = {
    name: lambda p, x, y, ops=ops: transformer_loss(ops, p, x, y)
    for name, ops in {"fgrad": OURS, "jax": JAX, "torch": TORCH}.items()
}


def step_of(name: str) -> Any:
    """Of a training step: parameters, a batch, a batch of another size, each library's loss."""
    if name == "mlp":
        params, *data = mlp_data(128)
        return params, data, mlp_data(96)[1:], _mlp_losses()
    return transformer_params(), tokens(8), tokens(6), TRANSFORMER_LOSSES


def flux() -> Row:
    """Gradients of a double-stream and a single-stream block in parameters and tokens."""
    sizes = Sizes()
    return gradients(
        "FLUX blocks, one of each kind (width 256, 2 x 320 tokens), forward + backward",
        (params_of(sizes), *tokens_of(sizes, 2)),
        our_loss(sizes),
        peer_loss(JaxOps, sizes),
        peer_loss(TorchOps, sizes),
        "1.0x",
        1,
    )


def per_sample() -> Row:
    """The gradient of each of 128 samples."""
    params, x, y = mlp_data()

    def grads(lib: Any, xp: Any, lse: Any, relu: Any) -> Any:
        def loss(p: Any, x: Any, y: Any) -> Any:
            return perceptron_loss(xp, lse, relu, p, x, y)

        return lib.jit(lib.vmap(lib.grad(loss), in_axes=(None, 0, 0)))

    run = grads(fg, fnp, lambda z: nn.logsumexp(z, axis=-1), nn.relu)
    jax_run = blocked(grads(jax, jnp, lambda z: jax.nn.logsumexp(z, axis=-1), jax.nn.relu))
    fargs, jargs = ours((params, x, y)), in_jax((params, x, y))
    tparams, tx, ty = in_torch((params, x, y))

    def loss(p: Any, x: Any, y: Any) -> Any:
        return perceptron_loss(torch, lambda z: torch.logsumexp(z, -1), torch.relu, p, x, y)

    torch_run = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    row = Row(
        "per-sample gradients of the MLP, 128 samples",
        {
            "fgrad": lambda: run(*fargs),
            "jax": lambda: jax_run(*jargs),
            "torch": lambda: torch_run(tparams, tx, ty),
        },
        "1.0x",
        1,
    )
    agree(row.contenders)
    return row


def second_order() -> list[Row]:
    """A Hessian of 64 variables, and a Hessian-vector product of the perceptron."""
    a, x, v = normal(64, 64), normal(64), normal(64)

    def f(xp: Any) -> Any:
        return lambda x, a: xp.sum(xp.tanh(a @ xp.sin(x)) ** 2)

    run = fg.jit(fg.hessian(f(fnp)))
    jax_run = blocked(jax.jit(jax.hessian(f(jnp))))
    fx, jx, tx = ours((x, a)), in_jax((x, a)), in_torch((x, a))
    torch_run = torch.func.hessian(f(torch))
    rows = [
        Row("Hessian of 64 variables", {
            "fgrad": lambda: run(*fx), "jax": lambda: jax_run(*jx), "torch": lambda: torch_run(*tx),
        }, "1.0x", 20)
    ]  # fmt: skip

    def hvp(lib: Any, xp: Any) -> Any:
        g = lib.grad(f(xp))
        return lib.jit(lambda x, a, v: lib.jvp(lambda x: g(x, a), (x,), (v,))[1])

    ours_hvp, jax_hvp = hvp(fg, fnp), blocked(hvp(jax, jnp))
    fv, jv, tv = ours(v), in_jax(v), in_torch(v)

    def torch_hvp() -> Any:
        g = torch.func.grad(f(torch))
        return torch.func.jvp(lambda x: g(x, tx[1]), (tx[0],), (tv,))[1]

    rows.append(
        Row("Hessian-vector product", {
            "fgrad": lambda: ours_hvp(*fx, fv), "jax": lambda: jax_hvp(*jx, jv), "torch": torch_hvp,
        }, "1.0x", 100)
    )  # fmt: skip
    for row in rows:
        agree(row.contenders)
    return rows


def recurrent() -> Row:
    """The gradient through 256 steps of a recurrent network by scan."""
    args = (normal(64, 64, scale=0.1), normal(64, 64, scale=0.1), normal(256, 16, 64))

    def loss(scan: Any, xp: Any) -> Any:
        def f(w: Any, u: Any, xs: Any) -> Any:
            def step(h: Any, x: Any) -> Any:
                h = xp.tanh(h @ w + x @ u)
                return h, h

            return xp.sum(xp.square(scan(step, xs[0] * 0, xs)[1]))

        return f

    def torch_loss(w: Any, u: Any, xs: Any) -> Any:
        h, total = xs[0] * 0, 0.0
        for x in xs:
            h = torch.tanh(h @ w + x @ u)
            total = total + h.square().sum()
        return total

    run = fg.jit(fg.value_and_grad(loss(lax.scan, fnp), argnums=(0, 1)))
    jax_run = blocked(jax.jit(jax.value_and_grad(loss(jax.lax.scan, jnp), argnums=(0, 1))))
    fargs, jargs, targs = ours(args), in_jax(args), in_torch(args, grad=True)

    def torch_run() -> Any:
        value = torch_loss(*targs)
        return value, torch.autograd.grad(value, targs[:2])

    row = Row("recurrent network, scan of 256 steps, gradient", {
        "fgrad": lambda: run(*fargs), "jax": lambda: jax_run(*jargs), "torch": torch_run,
    }, "1.0x", 1)  # fmt: skip
    agree(row.contenders)
    return row


def embedding() -> Row:
    """The gradient of a table of 20,000 rows looked up 4,096 times."""
    table, ct = normal(20_000, 128), normal(4096, 128)
    index = RNG.integers(0, 20_000, 4096).astype(np.int32)
    run = fg.jit(fg.grad(lambda t, i, c: fnp.sum(fnp.take(t, i, axis=0) * c)))
    jax_run = blocked(jax.jit(jax.grad(lambda t, i, c: jnp.sum(t[i] * c))))
    fargs, jargs = ours((table, index, ct)), in_jax((table, index, ct))
    ttable, tindex, tct = in_torch(table, grad=True), in_torch(index), in_torch(ct)
    row = Row(
        "embedding, gradient",
        {
            "fgrad": lambda: run(*fargs),
            "jax": lambda: jax_run(*jargs),
            "torch": lambda: torch.autograd.grad(F.embedding(tindex, ttable), ttable, tct)[0],
        },
        "1.0x",
        5,
    )
    agree(row.contenders)
    return row


def segments(count: int) -> Row:
    """Sums of 1,000,000 numbers in segments."""
    data, ids = normal(1_000_000), RNG.integers(0, count, 1_000_000).astype(np.int32)
    run = fg.jit(lambda x, i: fg.ops.segment_sum(x, i, count))
    jax_run = blocked(jax.jit(lambda x, i: jax.ops.segment_sum(x, i, count)))
    fargs, jargs, (tdata, tids) = (f((data, ids)) for f in (ours, in_jax, in_torch))
    row = Row(
        f"sums of 1,000,000 numbers in {count:,} segments",
        {
            "fgrad": lambda: run(*fargs),
            "jax": lambda: jax_run(*jargs),
            "torch": lambda: torch.zeros(count).index_add_(0, tids, tdata),
            "numpy": lambda: np.bincount(ids, data, count).astype(np.float32),
        },
        "1.0x",
        5,
    )
    agree(row.contenders)
    return row


def main() -> None:
    """Measure all rows."""
    rows = [
        dense(),
        attention(),
        convolution(),
        training("MLP training step (784-512-256-10, batch 128)", "mlp", 10),
        training("character transformer step (4 layers, width 256, 8 x 256)", "transformer", 1),
        flux(),
        per_sample(),
    ]
    rows += [*second_order(), recurrent(), embedding(), segments(1_000), segments(1_000_000)]
    report("cpu_networks", [r.measure() for r in rows], {**VERSIONS, "threads": str(THREADS)})


if __name__ == "__main__":
    main()
