"""Layers, training steps and derivatives of other orders on a GPU.

Needs a GPU, CuPy, JAX and PyTorch. `--save` writes `results/gpu_networks.json`; for the other
options see `peers.py`. Results in bfloat16, of 8 bits, agree to 2e-2 in norm, after three blocks to
6e-2 (at small sizes all libraries are 3e-2 off float32 there), those in TF32, of 11 bits, to 2e-3.
PyTorch's attention is cuDNN's; JAX is asked for it too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from models import (
    BF16,
    CONVERT,
    MODELS,
    OPERATIONS,
    Model,
    jax_attention,
    perceptron,
    perceptron_loss,
    stepper,
    torch_attention,
)
from peers import (
    SMALL,
    Row,
    captured,
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
    of_halves,
    ours,
    torch,
)

from fgrad import lax, nn

F = torch.nn.functional
HALF, TF32 = 2e-2, 2e-3  # tolerances
Contenders = dict[str, Callable[[], Any]]


# ------------------------------------------------------------------------------------------- layers


def dense() -> Row:
    """Product, bias and GELU."""
    m, k, n = (64, 96, 160) if SMALL else (8192, 3072, 12288)
    args = (
        normal(m, n, dtype=BF16), normal(m, k, dtype=BF16),
        normal(k, n, dtype=BF16, scale=k**-0.5), normal(n, dtype=BF16),
    )  # fmt: skip
    functions = (
        lambda x, w, b: nn.gelu(x @ w + b),
        of_halves(lambda x, w, b: jax.nn.gelu(x @ w + b)),
        lambda x, w, b: F.gelu(x @ w + b, approximate="tanh"),
    )
    name = "matmul + bias + GELU [8192, 3072] x [3072, 12288] bfloat16"
    return forward_backward(name, "<= 2.75 ms", 2.37, args, functions, HALF)


def attention() -> Row:
    """Softmax attention; one contender is cuDNN's with a deterministic backward."""
    shape = (2, 64, 2, 32) if SMALL else (2, 4096, 24, 128)
    args = tuple(normal(*shape, dtype=BF16) for _ in range(4))

    def deterministic(torch_of: Any) -> Contenders:
        run = torch_of(torch_attention)
        torch.utils.deterministic.fill_uninitialized_memory = False

        def call() -> Any:
            torch.use_deterministic_algorithms(True)
            try:
                return run()
            finally:
                torch.use_deterministic_algorithms(False)

        return captured(call, name="torch, deterministic, graph")

    functions = nn.dot_product_attention, jax_attention, torch_attention
    return forward_backward(
        "attention B2 H24 S4096 D128 bfloat16", "<= 1.02 of the library with its determinism",
        1.84, args, functions, HALF, deterministic,
    )  # fmt: skip


def convolution(layout: str, dtype: Any, target: str, floor: float) -> Row:
    """A 3x3 convolution of 256 channels to 256 on 16 images of 64 x 64.

    Weights are stored like images: the inputs' channels first or last in memory.
    """
    n, c, size = (2, 16, 8) if SMALL else (16, 256, 64)
    last = layout == "NHWC"
    x = (n, size, size, c) if last else (n, c, size, size)
    w = (c, 3, 3, c) if last else (c, c, 3, 3)
    scale = (9 * c) ** -0.5
    args = normal(*x, dtype=dtype), normal(*x, dtype=dtype), normal(*w, dtype=dtype, scale=scale)
    parts = {
        "window_strides": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dimension_numbers": (layout, "OHWI" if last else "OIHW", layout),
    }

    name = "bfloat16" if dtype is BF16 else "TF32"
    torch.backends.cudnn.allow_tf32 = name == "TF32"
    precision = jax.lax.Precision.HIGH if name == "TF32" else jax.lax.Precision.DEFAULT

    def in_torch_form(x: Any, w: Any) -> Any:
        first = (0, 3, 1, 2)
        y = F.conv2d(*((a.permute(first) for a in (x, w)) if last else (x, w)), padding=1)
        return y.permute(0, 2, 3, 1) if last else y

    functions = (
        lambda x, w: lax.conv_general_dilated(x, w, precision="tensorfloat32", **parts),
        lambda x, w: jax.lax.conv_general_dilated(x, w, precision=precision, **parts),
        in_torch_form,
    )  # fmt: skip
    return forward_backward(
        f"conv 3x3 {layout} [16, 256, 64, 64] {name}", target, floor, args, functions,
        HALF if dtype is BF16 else TF32,
    )  # fmt: skip


def _table() -> Any:
    """A table as GPT-2's, places in it, and the cotangent of the rows there."""
    rows, width, count = (300, 16, 128) if SMALL else (50257, 768, 8192)
    index = np.random.default_rng(0).integers(0, rows, count).astype(np.int32)
    return normal(rows, width), index, normal(count, width)


def embedding() -> Row:
    """The gradient of a table, as dense as the table, which itself is not read."""
    table, index, ct = _table()
    run = fg.jit(lambda t, i, c: fg.vjp(lambda t: nn.embedding(i, t), t)[1](c)[0])
    jax_run = jax.jit(lambda t, i, c: jax.vjp(lambda t: t[i], t)[1](c)[0])
    fargs, jargs, targs = (
        ours((table, index, ct)),
        in_jax((table, index, ct)),
        in_torch((index, ct)),
    )

    def backward(i: Any, c: Any) -> Any:
        return torch.ops.aten.embedding_dense_backward(c, i, len(table), -1, False)

    made = compiled(backward)
    contenders = {
        "fgrad": lambda: run(*fargs),
        "jax": lambda: jax_run(*jargs),
        "torch": lambda: backward(*targs),
        "torch.compile": lambda: made(*targs),
        **captured(lambda: made(*targs)),
    }
    name = "embedding [50257, 768], 8192 places, gradient"
    return Row(name, contenders, "<= 0.085 ms", 0.077)


def sparse_sgd() -> Row:
    """A step of SGD on the rows that are looked up, in place."""
    table, index, ct = _table()
    rate = 0.5
    run = fg.jit(lambda t, i, c: t.at[i].add(-rate * c), donate_argnums=0)
    jax_run = jax.jit(lambda t, i, c: t.at[i].add(-rate * c), donate_argnums=0)
    held, jheld = [ours(table)], [in_jax(table)]
    fargs, jargs, (tindex, tct) = ours((index, ct)), in_jax((index, ct)), in_torch((index, ct))

    def stepped(state: list[Any], f: Any, args: Any) -> Any:
        def call() -> Any:
            state[0] = f(state[0], *args)
            return state[0]

        return call

    def in_place(t: Any) -> Any:
        return t.index_add_(0, tindex, tct, alpha=-rate)

    tables = [in_torch(table) for _ in range(3)]
    made = compiled(in_place)
    contenders = {
        "fgrad": stepped(held, run, fargs),
        "jax": stepped(jheld, jax_run, jargs),
        "torch": lambda: in_place(tables[0]),
        "torch.compile": lambda: made(tables[1]),
        **captured(lambda: made(tables[2]), lambda: tables[2].copy_(in_torch(table))),
    }
    return Row("embedding, sparse SGD in place", contenders, "<= 0.05 ms", 0.042)


# ----------------------------------------------------------------------------------- training steps


def step(title: str, model: Model, target: str, floor: float | None, tolerance: float) -> Row:
    """A step in all libraries.

    Those with an optimizer agree in the losses of four steps; at small sizes, where compiling
    costs little, in all gradients too.
    """

    def contender(library: str, model: Model = model) -> tuple[Any, Any]:
        run = stepper(model, library)
        batch = CONVERT[library](model.data)
        return (lambda: run(*batch)), run

    names = ("fgrad", "jax", "torch", "torch.compile")
    contenders = {name: contender(name)[0] for name in names}
    if SMALL and model.decay is not None:
        slopes = {name: contender(name, model._replace(decay=None))[0] for name in names}
        Row(title, slopes, target, None, 10 * tolerance).agree()
    call, run = contender("torch.compile")
    contenders |= captured(call, getattr(run, "reset", lambda: None))
    calls = 1 if model.decay is None else 4
    return Row(title, contenders, target, floor, tolerance, calls)


def mlp() -> Row:
    """Adam on a small perceptron."""
    return step(
        "MLP step (784-512-256-10, batch 128, Adam)", MODELS["MLP"](), "<= 0.07 ms", None, 1e-4
    )


def gpt() -> Row:
    """AdamW on GPT-2 small."""
    name = "GPT-2 small step, bfloat16, B8 S1024"
    return step(name, MODELS["GPT-2"](), "<= 17.5 ms", 8.35, 2e-3)


def flux() -> Row:
    """Loss and all gradients of three blocks, each computed again on the way back."""
    name = "FLUX blocks step (1 double + 2 single, width 3072, 4608 tokens, bfloat16)"
    return step(name, MODELS["FLUX"](), "<= 27 ms", 20.0, 3 * HALF)


# ----------------------------------------------------------------------- derivatives of other kinds


def everywhere(
    title: str,
    target: str,
    args: Any,
    functions: tuple[Callable[..., Any], ...],
    tolerance: float = 1e-4,
) -> Row:
    """A function of arrays, for fgrad, JAX and `torch.func`, that takes derivatives itself."""
    run, jax_run = fg.jit(functions[0]), jax.jit(functions[1])
    fargs, jargs, targs = ours(args), in_jax(args), in_torch(args)
    made = compiled(functions[2])
    contenders = {
        "fgrad": lambda: run(*fargs),
        "jax": lambda: jax_run(*jargs),
        "torch": lambda: functions[2](*targs),
        "torch.compile": lambda: made(*targs),
        **captured(lambda: made(*targs)),
    }
    return Row(title, contenders, target, None, tolerance)


def hvp() -> Row:
    """The Hessian of the perceptron's loss times a direction."""
    params, (x, y), *_ = perceptron()
    tangents = jax.tree.map(lambda p: normal(*p.shape, scale=p.shape[0] ** -0.5), params)

    def of(lib: Any, library: str) -> Any:
        def run(params: Any, tangents: Any, x: Any, y: Any) -> Any:
            slope = lib.grad(lambda p: perceptron_loss(library, p, x, y))
            return lib.jvp(slope, (params,), (tangents,))[1]

        return run

    functions = of(fg, "fgrad"), of(jax, "jax"), of(torch.func, "torch")
    args = params, tangents, x, y
    return everywhere("hvp of the MLP, batch 128", "<= 0.10 ms", args, functions, 1e-3)


def hessian_diagonal() -> Row:
    """The diagonal of the Hessian of a function of 256 variables, by 256 products with it."""
    n = 32 if SMALL else 256
    args = normal(n), normal(n, n, scale=n**-0.5), np.eye(n, dtype=np.float32)

    def of(lib: Any, xp: Any) -> Any:
        def run(x: Any, a: Any, basis: Any) -> Any:
            slope = lib.grad(lambda x: xp.sum(xp.tanh(a @ xp.sin(x)) ** 2))

            def entry(v: Any) -> Any:
                return xp.sum(v * lib.jvp(slope, (x,), (v,))[1])

            return lib.vmap(entry)(basis)

        return run

    functions = of(fg, fnp), of(jax, jnp), of(torch.func, torch)
    return everywhere("diagonal of a Hessian, 256 variables", "<= 0.06 ms", args, functions, 1e-3)


def per_sample() -> Row:
    """The gradient of each of 256 samples of a network of two convolutions, 28 x 28 pixels."""
    batch = 8 if SMALL else 256
    params = (
        normal(32, 1, 3, 3, scale=1 / 3), normal(64, 32, 3, 3, scale=1 / 17),
        normal(64 * 7 * 7, 10, scale=1 / 56),
    )  # fmt: skip
    labels = np.eye(10, dtype=np.float32)[np.random.default_rng(0).integers(0, 10, batch)]
    conv = {
        "fgrad": lambda x, w: nn.conv(x, w, stride=2, padding=1),
        "jax": lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1))),
        "torch": lambda x, w: F.conv2d(x, w, stride=2, padding=1),
    }
    torch.backends.cudnn.allow_tf32 = False

    def of(lib: Any, library: str) -> Any:
        xp, lse, relu = OPERATIONS[library]

        def loss(params: Any, x: Any, y: Any) -> Any:
            h = x[None]
            for w in params[:2]:
                h = relu(conv[library](h, w))
            logits = h.reshape(-1) @ params[2]
            return lse(logits) - xp.sum(y * logits)

        return lib.vmap(lib.grad(loss), in_axes=(None, 0, 0))

    functions = of(fg, "fgrad"), of(jax, "jax"), of(_TorchFunctions, "torch")
    args = params, normal(batch, 1, 28, 28), labels
    title = "per-sample gradients of a CNN, 256 samples"
    return everywhere(title, "<= 1.0 ms", args, functions, 1e-3)


class _TorchFunctions:
    """`torch.func` under the names of the others' arguments."""

    grad = staticmethod(torch.func.grad)
    vmap = staticmethod(lambda f, in_axes: torch.func.vmap(f, in_dims=in_axes))


def recurrent() -> Row:
    """The gradient of a recurrence whose step the user writes; in PyTorch, a loop.

    torch.compile is left out: it unrolls the loop and takes minutes. A CUDA graph has eager
    PyTorch's kernels.
    """
    steps, batch, width = (16, 4, 8) if SMALL else (512, 64, 256)
    scale = 0.5 * width**-0.5
    args = (
        normal(width, width, scale=scale),
        normal(width, width, scale=scale),
        normal(steps, batch, width),
    )

    def loss(scan: Any, xp: Any) -> Any:
        def f(w: Any, u: Any, xs: Any) -> Any:
            def body(h: Any, x: Any) -> Any:
                h = xp.tanh(h @ w + x @ u)
                return h, h

            return xp.mean(xp.square(scan(body, xs[0] * 0, xs)[1]))

        return f

    def loop(body: Any, h: Any, xs: Any) -> Any:
        found = []
        for x in xs:
            h, y = body(h, x)
            found.append(y)
        return h, torch.stack(found)

    run = fg.jit(fg.value_and_grad(loss(lax.scan, fnp), argnums=(0, 1)))
    jax_run = jax.jit(jax.value_and_grad(loss(jax.lax.scan, jnp), argnums=(0, 1)))
    fargs, jargs, targs = ours(args), in_jax(args), in_torch(args, grad=True)

    def torch_run() -> Any:
        value = loss(loop, torch)(*targs)
        return value, torch.autograd.grad(value, targs[:2])

    contenders = {
        "fgrad": lambda: run(*fargs),
        "jax": lambda: jax_run(*jargs),
        "torch": torch_run,
        **captured(torch_run, name="torch, graph"),
    }
    return Row("RNN, scan of 512 steps, gradient", contenders, "<= 6 ms", None, 1e-3)


def main() -> None:
    """Measure all rows."""
    convolutions = {
        f"conv {layout} {np.dtype(dtype).name}": partial(convolution, layout, dtype, *goal)
        for dtype, goal in ((BF16, ("<= 0.36 ms", 0.296)), (np.float32, ("<= 0.865 ms", 0.578)))
        for layout in ("NHWC", "NCHW")
    }
    makers = {
        "matmul": dense, "attention": attention, **convolutions, "embedding": embedding,
        "sparse SGD": sparse_sgd, "MLP": mlp, "hvp": hvp, "Hessian": hessian_diagonal,
        "per-sample": per_sample, "RNN": recurrent, "GPT-2": gpt, "FLUX": flux,
    }  # fmt: skip
    measure_all("gpu_networks", makers)


if __name__ == "__main__":
    main()
