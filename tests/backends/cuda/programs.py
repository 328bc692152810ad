"""Small whole programs, as the tests of the CUDA compiler run them here and on a card."""

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn, random
from fgrad.backends.cuda import library, prelude
from fgrad.backends.cuda.compiler import unsupported
from fgrad.backends.cuda.executable import Target
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.core.transforms.stage import hoist

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def perceptron(x, y, w, b):
    def loss(w, b):
        h = nn.gelu(nn.layer_norm(x) @ w + b)
        return -fnp.mean(fnp.sum(y * nn.log_softmax(h), axis=1))

    value, (dw, db) = fg.value_and_grad(loss, argnums=(0, 1))(w, b)
    return value, w - 0.1 * dw, b - 0.1 * db


def recurrence(xs, h, w):
    def step(h, x):
        h = fnp.tanh(h * w + x)
        return h, fnp.sum(h)

    return fg.value_and_grad(lambda w: fnp.sum(lax.scan(step, h, xs)[1]))(w), w


def newton(x):
    def body(s):
        i, y = s
        return i + 1, y - (y * y - x) / (2 * y)

    return lax.while_loop(lambda s: fnp.any(fnp.abs(s[1] ** 2 - x) > 1e-5), body, (0, x + 1))


def lookup(table, ids, i):
    rows = table[ids]
    return lax.switch(i, [lambda r: r, lambda r: r[::-1] * 2], rows), fnp.max(rows, axis=0)


def loops(x, n):
    def inner(x):
        return lax.fori_loop(0, 3, lambda _, x: fnp.sin(x) + x[0], x)

    def body(s):
        i, x = s
        return i + 1, lax.cond(i % 2 == 0, inner, lambda x: x * 2, x)

    return lax.while_loop(lambda s: s[0] < n, body, (fnp.int32(0), x))


def dropout(key, x):
    return nn.softmax(fnp.where(random.bernoulli(key, 0.5, x.shape), x * 2, 0.0), axis=-1)


def update(params, moments, grads):
    norm = fnp.sqrt(fnp.sum(fnp.stack([fnp.sum(g * g) for g in grads])))
    clipped = [g * fnp.minimum(1.0, 1.0 / norm) for g in grads]
    moments = [0.9 * m + 0.1 * g for m, g in zip(moments, clipped, strict=True)]
    return [p - 0.1 * m for p, m in zip(params, moments, strict=True)], moments


SHAPES = [(3, 5), (40, 30), (40, 30), (7, 9), (512,), (512,)]
PROGRAMS = {
    "update": (update, *([normal(*s) for s in SHAPES] for _ in range(3))),
    "perceptron": (
        perceptron,
        normal(9, 16),
        np.eye(12, dtype="f")[:9],
        normal(16, 12),
        normal(12),
    ),
    "recurrence": (recurrence, normal(5, 7), normal(7), normal(7)),
    "newton": (newton, np.abs(normal(11)) + 1),
    "lookup": (lookup, normal(6, 5), np.array([3, 0, 5], np.int32), np.int32(1)),
    "dropout": (dropout, np.array([1, 2], np.uint32), normal(4, 33)),
    "convolution": (
        lambda x, w: nn.relu(lax.conv(x, w, (1, 1), "SAME")),
        normal(2, 3, 6, 6),
        normal(4, 3, 3, 3),
    ),
}


SCALE = fg.cuda_kernel(
    """extern "C" __global__ void scale(const float* x, const float* s, float* y, int n)
    {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) y[i] = x[i] * s[0];
    }""",
    "scale",
    out=lambda x, s: x,
    scalars=lambda x, s: [x.size],
    vjp=lambda ct, y, x, s: (SCALE(ct, s), fnp.sum(ct * x).reshape(1)),
    cpu=lambda x, s: x * s,
)

TARGET = Target(None, library.plan_of, None, prelude.supports, library.keeps)


def missing_in(f, *args):
    """The primitives of a program that nothing computes on a GPU."""
    closed = fg.jit(f).lower(*args).jaxpr
    plan = lower(optimize(hoist(closed.jaxpr)), TARGET.supports, TARGET.keeps)
    return {step.eqn.primitive.name for step in unsupported(plan, TARGET)}
