"""Training steps that several GPU benchmarks measure, each written for all libraries.

The perceptron is float32 with Adam. GPT-2 keeps float32 parameters and optimizer state; products,
attention and activations are bfloat16, statistics of norms and the loss float32; AdamW. The blocks
of FLUX are bfloat16 throughout, every block computed again on the way back, no optimizer.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import ml_dtypes
from peers import (
    CPU,
    SMALL,
    compiled,
    fg,
    fnp,
    in_jax,
    in_torch,
    jax,
    jnp,
    normal,
    np,
    of_halves,
    ours,
    torch,
)
from stream_blocks import JaxOps, Sizes, TorchOps, our_loss, params_of, peer_loss, tokens_of

from fgrad import nn, optim

F = torch.nn.functional
BF16 = ml_dtypes.bfloat16
CONVERT = {"fgrad": ours, "jax": in_jax, "torch": in_torch, "torch.compile": in_torch}


class Model(NamedTuple):
    """A step's inputs and what it computes.

    Attributes:
        params: NumPy arrays.
        data: A batch.
        other: A batch of another size.
        losses: Library → loss of parameters and a batch.
        decay: Of the weights, in AdamW; None: the step is the gradient in all inputs.
    """

    params: Any
    data: tuple[Any, ...]
    other: tuple[Any, ...]
    losses: dict[str, Callable[..., Any]]
    decay: float | None


# --------------------------------------------------------------------------------------- perceptron

SIZES = ((784, 512), (512, 256), (256, 10))
OPERATIONS = {
    "fgrad": (fnp, lambda z: nn.logsumexp(z, axis=-1), nn.relu),
    "jax": (jnp, lambda z: jax.nn.logsumexp(z, axis=-1), jax.nn.relu),
    "torch": (torch, lambda z: torch.logsumexp(z, -1), torch.relu),
}


def perceptron_loss(library: str, params: Any, x: Any, y: Any) -> Any:
    """Cross-entropy of 784-512-256-10 with one-hot labels."""
    xp, lse, relu = OPERATIONS[library]
    for w, b in params[:-1]:
        x = relu(x @ w + b)
    w, b = params[-1]
    logits = x @ w + b
    return xp.mean(lse(logits) - xp.sum(y * logits, -1))


def perceptron() -> Model:
    """784-512-256-10, batch 128."""
    params = [(normal(*s, scale=s[0] ** -0.5), normal(s[1], scale=0.1)) for s in SIZES]

    def batch(size: int) -> Any:
        labels = np.random.default_rng(size).integers(0, 10, size)
        return normal(size, 784), np.eye(10, dtype=np.float32)[labels]

    losses = {
        name: lambda p, x, y, name=name: perceptron_loss(name, p, x, y) for name in OPERATIONS
    }
    return Model(params, batch(128), batch(96), losses, 0.0)


# -------------------------------------------------------------------------------------------- GPT-2


class GPTSizes(NamedTuple):
    """What a GPT-2 is made of."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    vocabulary: int = 50257
    length: int = 1024
    batch: int = 8


def gpt_params(sizes: GPTSizes) -> Any:
    """Blocks, a table of tokens that is the head too, and positions."""
    w = sizes.width
    scale = w**-0.5

    def norm() -> Any:
        return np.ones(w, np.float32), np.zeros(w, np.float32)

    def linear(inner: int, outer: int, scale: float) -> Any:
        return normal(inner, outer, scale=scale), np.zeros(outer, np.float32)

    def block() -> Any:
        return {
            "norm1": norm(), "qkv": linear(w, 3 * w, scale), "out": linear(w, w, scale / 4),
            "norm2": norm(), "up": linear(w, 4 * w, scale), "down": linear(4 * w, w, scale / 8),
        }  # fmt: skip

    return {
        "blocks": [block() for _ in range(sizes.layers)], "norm": norm(),
        "tokens": normal(sizes.vocabulary, w, scale=0.02),
        "positions": normal(sizes.length, w, scale=0.02),
    }  # fmt: skip


def gpt_loss(ops: Any, heads: int, params: Any, tokens: Any, targets: Any) -> Any:
    """The loss of GPT-2 without dropout; `ops` are a library's functions."""
    batch, length = tokens.shape
    x = ops.half(ops.take(params["tokens"], tokens) + params["positions"])
    p = ops.map(ops.half, params)

    def linear(x: Any, parts: Any) -> Any:
        return x @ parts[0] + parts[1]

    for q in p["blocks"]:
        h = linear(ops.norm(x, *q["norm1"]), q["qkv"]).reshape(batch, length, 3, heads, -1)
        h = ops.attend(h[:, :, 0], h[:, :, 1], h[:, :, 2]).reshape(batch, length, -1)
        x = x + linear(h, q["out"])
        h = linear(ops.norm(x, *q["norm2"]), q["up"])
        x = x + linear(ops.gelu(h), q["down"])
    return ops.loss(ops.norm(x, *p["norm"]) @ p["tokens"].T, targets)


def jax_norm(x: Any, g: Any, b: Any) -> Any:
    """Layer norm with statistics in float32."""
    wide = x.astype(np.float32)
    c = wide - wide.mean(-1, keepdims=True)
    y = c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    return y.astype(x.dtype) * g + b


def jax_loss(z: Any, y: Any) -> Any:
    """Cross-entropy in float32."""
    wide = z.astype(np.float32)
    picked = jnp.take_along_axis(wide, y[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(wide, axis=-1) - picked)


def jax_attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    """Softmax attention, by cuDNN on a card."""
    how = None if CPU else "cudnn"
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation=how)


def torch_attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    """Softmax attention of ``[batch, positions, heads, channels]``."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


GPT_OPERATIONS = {
    "fgrad": SimpleNamespace(
        map=fg.tree.map,
        half=lambda x: x.astype(BF16),
        take=lambda table, i: nn.embedding(i, table),
        norm=nn.layer_norm,
        attend=lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True),
        gelu=nn.gelu,
        loss=lambda z, y: nn.cross_entropy(z.astype(np.float32), y),
    ),
    "jax": SimpleNamespace(
        map=jax.tree.map,
        half=lambda x: x.astype(BF16),
        take=lambda table, i: table[i],
        norm=jax_norm,
        attend=lambda q, k, v: jax_attention(q, k, v, True),
        gelu=jax.nn.gelu,
        loss=jax_loss,
    ),
    "torch": SimpleNamespace(
        map=torch.utils._pytree.tree_map,
        half=torch.Tensor.bfloat16,
        take=lambda table, i: F.embedding(i, table),
        norm=lambda x, g, b: F.layer_norm(x, x.shape[-1:], g, b),
        attend=lambda q, k, v: torch_attention(q, k, v, True),
        gelu=lambda x: F.gelu(x, approximate="tanh"),
        loss=lambda z, y: F.cross_entropy(z.float().flatten(0, 1), y.flatten().long()),
    ),
}


def gpt() -> Model:
    """GPT-2 small, 8 sequences of 1024."""
    sizes = GPTSizes(2, 4, 64, 211, 32, 2) if SMALL else GPTSizes()

    def batch(count: int) -> Any:
        rng = np.random.default_rng(count)
        shape = count, sizes.length
        return tuple(rng.integers(0, sizes.vocabulary, shape).astype(np.int32) for _ in range(2))

    losses = {
        name: lambda p, x, y, ops=ops: gpt_loss(ops, sizes.heads, p, x, y)
        for name, ops in GPT_OPERATIONS.items()
    }
    losses["jax"] = of_halves(losses["jax"])
    return Model(gpt_params(sizes), batch(sizes.batch), batch(sizes.batch - 1), losses, 0.01)


# --------------------------------------------------------------------------------------------- FLUX


def flux() -> Model:
    """One double-stream and two single-stream blocks, 512 tokens of text, 64 x 64 patches."""
    narrow, wide = Sizes(2, 32, 4, 8, 2, BF16, True), Sizes(24, 128, 64, 512, 2, BF16, True)
    sizes = narrow if SMALL else wide
    losses = {
        "fgrad": our_loss(sizes),
        "jax": of_halves(peer_loss(JaxOps, sizes)),
        "torch": peer_loss(TorchOps, sizes),
    }
    return Model(params_of(sizes), tokens_of(sizes, 1), tokens_of(sizes, 2), losses, None)


MODELS = {"MLP": perceptron, "GPT-2": gpt, "FLUX": flux}

# -------------------------------------------------------------------------------------------- steps

_RATE = 1e-3


def stepper(model: Model, library: str) -> Callable[..., Any]:
    """A step of a model in one library, of a batch in the library's own arrays.

    Args:
        model: Its optimizer's state is donated, or updated in place, and kept here.
        library: ``"fgrad"``, ``"jax"``, ``"torch"`` or ``"torch.compile"``.

    Returns:
        A function whose result is the loss; for a model without optimizer, loss and gradients.
        For torch it has an attribute `reset`, which puts the first state back.
    """
    if library.startswith("torch"):
        loss = model.losses["torch"]
        loss = compiled(loss) if library == "torch.compile" else loss
        return _torch_gradient(model, loss) if model.decay is None else _torch_step(model, loss)
    lib, loss = {"fgrad": fg, "jax": jax}[library], model.losses[library]
    if model.decay is None:
        params = CONVERT[library](model.params)
        everything = 0, *(i + 1 for i, x in enumerate(model.data) if _is_float(x))
        run = lib.jit(lib.value_and_grad(loss, argnums=everything))
        return lambda *batch: run(params, *batch)
    update, state = {"fgrad": _our_adamw, "jax": _jax_adamw}[library](model)
    held = [CONVERT[library](model.params), state]
    del state  # it is donated

    def step(params: Any, state: Any, *batch: Any) -> Any:
        value, gradient = lib.value_and_grad(loss)(params, *batch)
        return *update(gradient, state, params), value

    run = lib.jit(step, donate_argnums=(0, 1))

    def call(*batch: Any) -> Any:
        held[0], held[1], value = run(*held, *batch)
        return value

    return call


def _is_float(x: Any) -> bool:
    return x.dtype.kind not in "iu"


def _our_adamw(model: Model) -> Any:
    optimizer = optim.adamw(_RATE, weight_decay=model.decay)

    def update(gradient: Any, state: Any, params: Any) -> Any:
        updates, state = optimizer.update(gradient, state, params)
        return optim.apply_updates(params, updates), state

    return update, ours(fg.tree.map(np.asarray, optimizer.init(model.params)))


def _jax_adamw(model: Model) -> Any:
    def update(gradient: Any, state: Any, params: Any) -> Any:
        m, v, count = state
        count = count + 1
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, gradient)
        c1, c2 = 1 - 0.9**count, 1 - 0.999**count

        def moved(p: Any, a: Any, b: Any) -> Any:
            return p - _RATE * ((a / c1) / (jnp.sqrt(b / c2) + 1e-8) + model.decay * p)

        return jax.tree.map(moved, params, m, v), (m, v, count)

    zeros = jax.tree.map(np.zeros_like, model.params)
    return update, (in_jax(zeros), in_jax(zeros), jnp.float32(0))


def _torch_gradient(model: Model, loss: Callable[..., Any]) -> Callable[..., Any]:
    params = in_torch(model.params, grad=True)

    def call(*batch: Any) -> Any:
        batch = [x.detach().requires_grad_(x.is_floating_point()) for x in batch]
        value = loss(params, *batch)
        inputs = (params, *(x for x in batch if x.requires_grad))
        gradients = torch.autograd.grad(value, jax.tree.leaves(inputs))
        return value, jax.tree.unflatten(jax.tree.structure(inputs), gradients)

    call.reset = lambda: None
    return call


def _torch_step(model: Model, loss: Callable[..., Any]) -> Callable[..., Any]:
    params = in_torch(model.params, grad=True)
    leaves = jax.tree.leaves(params)
    kind = torch.optim.AdamW if model.decay else torch.optim.Adam
    optimizer = kind(leaves, lr=_RATE, weight_decay=model.decay, fused=True, capturable=not CPU)

    def call(*batch: Any) -> Any:
        optimizer.zero_grad()
        value = loss(params, *batch)
        value.backward()
        optimizer.step()
        return value

    def reset() -> None:
        with torch.no_grad():
            for leaf, first in zip(leaves, jax.tree.leaves(model.params), strict=True):
                leaf.copy_(torch.from_numpy(first))
        for state in optimizer.state.values():
            for x in state.values():
                x.zero_()

    call.reset = reset
    return call
