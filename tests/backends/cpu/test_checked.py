"""With `config.check` every kind of step is judged: a fault planted in one is named."""

import re
from dataclasses import replace

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn, optim
from fgrad.backends.cpu import compiler, gemm, products
from fgrad.backends.cpu.functions import Functions
from fgrad.compile import memory
from fgrad.compile.by_rules import ByRules
from fgrad.compile.kernel import Const
from fgrad.compile.plan import Launch
from fgrad.core import config
from fgrad.errors import KernelMismatchError

RNG = np.random.default_rng(0)


def f32(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def checking():
    with config.check():
        yield


def raises(what):
    """The error names the step, the element and both numbers, the equation, and its line."""
    return pytest.raises(
        KernelMismatchError,
        match=rf"(?s)^(?=.*{what}).*element \d+: got \S+, expected \S+ ±.*test_checked\.py:\d+",
    )


# ----------------------------------------------------------------------------- no fault


@pytest.mark.parametrize("start", [0, 3, 9])
def test_a_box_that_a_patch_overwrites_with_a_part_of_the_same_array(start):
    def f(x):
        return lax.dynamic_update_slice(x, lax.slice(x, (0, 0), (3, 4)), (start, 1))

    np.testing.assert_array_equal(fg.jit(f)(x := f32(8, 6)), f(x))


@pytest.mark.parametrize("mode", ["drop", "clip"])
@pytest.mark.parametrize("shape", [(9,), (9, 4), (9, 4, 2)])
def test_products_scattered_to_single_elements_and_beyond(shape, mode):
    def f(x, updates):
        places = (np.array([0, 2, 2, 40, 1]),) * min(2, x.ndim)
        y = fnp.asarray(x).at[places].multiply(updates, mode=mode)
        return y.at[(1,) * x.ndim].multiply(3.0, mode=mode)

    x, updates = f32(*shape), f32(5, *shape[2:])
    np.testing.assert_allclose(fg.jit(f)(x, updates), f(x, updates), rtol=1e-6)


# ------------------------------------------------------------------------------- routines


def convolution(x, w):
    return nn.conv(x, w, padding=1)


def lookup(table, ct):
    return fg.vjp(lambda t: fnp.take(t, np.array([0, 2, 2, 1]), axis=0), table)[1](ct)[0]


def pooled(x, ct):
    return fg.vjp(lambda x: nn.max_pool(x, 2), x)[1](ct)[0]


ROUTINES = {
    "conv_general_dilated": (convolution, lambda: (f32(2, 4, 16, 16), f32(8, 4, 3, 3))),
    "scatter_add": (lookup, lambda: (f32(3, 64), f32(4, 64))),
    "select_and_scatter_add": (pooled, lambda: (f32(1, 3, 16, 64), f32(1, 3, 8, 32))),
}


@pytest.mark.parametrize("name", ROUTINES)
def test_a_routine_is_compared_with_its_rule(name, monkeypatch):
    f, make = ROUTINES[name]
    args = make()
    found = []
    right = compiler.routine_of
    monkeypatch.setattr(compiler, "routine_of", lambda *a: found.append(right(*a)) or found[-1])
    fg.jit(lambda *args: f(*args))(*args)
    assert any(found)  # there is one
    sequence = compiler._sequence

    def wrong(routine, step, codes, made):
        loaded = sequence(routine, step, codes, made)

        def run(*arrays):
            loaded.call(*arrays)
            out = arrays[len(step.inputs)].reshape(-1)
            out[np.argmax(np.abs(out))] *= 1.001

        return loaded._replace(call=run)

    monkeypatch.setattr(compiler, "_sequence", wrong)
    with raises(rf"step \d+, {name},.*result 0, element"):
        fg.jit(lambda *args: f(*args))(*args)


# ------------------------------------------------------------------------------- products

PRODUCTS = {
    "matrices": lambda x, y: x[0] @ y[0],
    "transposed": lambda x, y: y[0].T @ x[0].T,
    "a batch": lambda x, y: x @ y,
    "batched over the last axis": lambda x, y: fnp.einsum("abi,cai->ibc", x, y[:, :3]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_compared_with_its_rule(name, dtype, monkeypatch):
    x, y = f32(3, 4, 5).astype(dtype), f32(3, 5, 5).astype(dtype)
    f = PRODUCTS[name]
    fg.jit(lambda x, y: f(x, y))(x, y)
    right = products.product_of

    def wrong(eqn):
        product = right(eqn)

        def run(x, y, out):
            product(x, y, out)
            out.reshape(-1)[3] *= 1.001

        return run if product is not None else None

    monkeypatch.setattr(compiler, "product_of", wrong)
    with raises(r"step 0, dot_general,.*result 0, element 3"):
        fg.jit(lambda x, y: f(x, y))(x, y)


def test_the_bound_of_a_product_is_about_its_terms():
    """A sum that cancels may be off by much, and one last place is no fault."""
    x = f32(64, 512)
    big = np.concatenate([x, -x], 1) * 1e4
    one = np.ones((1024, 8), np.float32)
    fg.jit(lambda x, y: x @ y)(big, one)
    infinite = big.copy()
    infinite[0, 0] = np.inf
    fg.jit(lambda x, y: x @ y)(infinite, one)


# -------------------------------------------------------------------------------- kernels


def test_each_kernel_of_a_batch_is_compared(monkeypatch):
    optimizer = optim.adamw(1e-3)
    params = [f32(300), f32(4, 100), f32(7)]
    args = (params, optimizer.init(params), [f32(*p.shape) for p in params])

    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    lowered = fg.jit(update).lower(*args)
    (step,) = [s for s in lowered.schedule() if s.kind == "kernel" and len(s.buffers) > 6]
    assert step  # one launch for all
    fg.jit(lambda *a: update(*a))(*args)
    right = Functions.launch_many

    def launch_many(self, parts, **given):
        call = right(self, parts, **given)

        def run(*arrays):
            before = [a.copy() for a in arrays]
            call(*arrays)
            written = [a for a, b in zip(arrays, before, strict=True) if not np.array_equal(a, b)]
            written[which].reshape(-1)[-1] += 1

        return run

    monkeypatch.setattr(Functions, "launch_many", launch_many)
    for which, size in ((0, 300), (-1, 7)):  # noqa: B007 - read by `run`
        with raises(rf"step \d+, kernel .*\(1 of {size} elements"):
            fg.jit(lambda *a: update(*a))(*args)


def with_other_numbers(plan):
    """The plan with 4 in the place of 3: its kernels are sound, and not what was asked for."""

    def changed(kernel):
        body = tuple(
            replace(i, value=4.0) if isinstance(i, Const) and i.value == 3 else i
            for i in kernel.body
        )
        return replace(kernel, body=body)

    return replace(
        plan, steps=tuple(replace(s, kernel=changed(s.kernel)) if isinstance(s, Launch) else s
                          for s in plan.steps),
    )  # fmt: skip


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 3.0,
        lambda x: fnp.sum(x.T * 3.0, axis=0),
        lambda x: fnp.exp(x) * 3.0 + fnp.concatenate([x, x])[2:6],
        lambda x: nn.softmax(x @ x.T * 3.0),
        lambda x: fnp.sum((x.astype("bfloat16") * 3.0).reshape(2, -1), 1),
        lambda x: (x * 1j) * 3.0,
        lambda x: fnp.mean(nn.layer_norm(x, x[0], x[1]) * 3.0 + nn.silu(x)),
        lambda x: (fnp.tanh(x) * 3.0, fnp.tanh(x[0]) * 3.0),  # a batch
    ],
)
def test_a_kernel_is_compared_with_its_equations(f, monkeypatch):
    x = f32(4, 6)
    fg.jit(lambda x: f(x))(x)
    right = compiler.lower
    monkeypatch.setattr(compiler, "lower", lambda *a: with_other_numbers(right(*a)))
    with raises(r"step \d+, kernel .* is not what its equations say .*operand \d+"):
        fg.jit(lambda x: f(x))(x)


def test_kernels_that_write_parts_are_left_to_their_meaning(monkeypatch):
    seen = []
    right = ByRules.written
    monkeypatch.setattr(ByRules, "written", lambda *a: seen.append(right(*a)) or seen[-1])
    x = f32(64, 64)
    fg.jit(lambda x: fnp.concatenate([x @ x + 1, fnp.sum(x, 0)[None]]))(x)
    assert any(y is None for y in seen)


# ---------------------------------------------------------------------------------- loops


def scanned(x, w):
    def step(c, v):
        c = fnp.tanh(c @ w + v)
        return c, c.sum()

    return lax.scan(step, x[0], x)


def accumulated(x, w):
    return fg.grad(lambda w: fnp.sum(scanned(x, w)[1]))(w)


def repeated(x, w):
    return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, fnp.sin(s[1] @ w)), (0, x[0]))


def chosen(x, w):
    return lax.cond(x[0, 0, 0] > 100, lambda x: x[0] * 2, lambda x: fnp.sin(x[0] @ w), x)


def updated(x, w):
    def step(i, s):
        row = lax.dynamic_index_in_dim(s, i - 1, 0, keepdims=False)
        return lax.dynamic_update_index_in_dim(s, fnp.sin(row @ w), i, 0)

    return lax.fori_loop(1, 4, step, x)


def nested(x, w):
    return lax.scan(lambda c, _: (scanned(x + c, w)[0], None), x[0], None, length=3)[0]


LOOPS = [scanned, accumulated, repeated, chosen, updated, nested]


@pytest.mark.parametrize("f", LOOPS)
@pytest.mark.parametrize("size", [6, 40])
def test_a_loop_that_is_right_passes(f, size):
    x, w = f32(5, 2, size), f32(size, size) / size
    found = fg.jit(lambda x, w: f(x, w))(x, w)
    kinds = [s.kind for s in fg.jit(f).lower(x, w).schedule()]
    assert "loop" in kinds
    with config.check(False):
        wanted = fg.jit(lambda x, w: f(x, w))(x, w)
    for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("f", LOOPS)
def test_a_tape_is_compared_with_its_steps(f, monkeypatch):
    x, w = f32(5, 2, 6), f32(6, 6) / 6
    right = compiler.checked_loop

    def checked_loop(call, *rest):
        def run(*arrays):
            call(*arrays)
            arrays[-2].view(np.int32).reshape(-1)[-1:] += 1  # the last result, before the frame

        return right(run, *rest)

    monkeypatch.setattr(compiler, "checked_loop", checked_loop)
    with raises(r"step \d+, (scan|while|cond).*result \d+, element \d+"):
        fg.jit(lambda x, w: f(x, w))(x, w)


@pytest.mark.parametrize("size", [6, 40])
def test_a_product_in_a_loop_is_compared(size, monkeypatch):
    """Small ones, which are code of our own, and those of BLAS."""
    x, w = f32(5, 2, size), f32(size, size) / size
    right = gemm.product

    def wrong(step, buffers):
        found = right(step, buffers)
        return found if found is None else found._replace(inner=found.inner - 1)

    fg.jit(lambda x, w: scanned(x, w))(x, w)
    monkeypatch.setattr(gemm, "product", wrong)
    with raises(r"step \d+, in scan: dot_general.*result 0, element 0.*dot_general"):
        fg.jit(lambda x, w: scanned(x, w))(x, w)


def test_a_kernel_in_a_loop_is_compared(monkeypatch):
    right, three = compiler.layout.words, compiler.layout.number_bits(3.0, np.dtype("f"))
    x = f32(4, 3)

    def f(x):
        return lax.scan(lambda c, v: (c * 3.0 + v, None), x[0], x)[0]

    monkeypatch.setattr(
        compiler.layout, "words",
        lambda kernel: [w + (1 << 20) if w == three else w for w in right(kernel)],
    )  # fmt: skip
    with raises(r"step 0, in scan: kernel mul_add.*operand"):
        fg.jit(f)(x)


def test_a_branch_that_is_wrong_only_where_it_is_taken(monkeypatch):
    right, three = compiler.layout.words, compiler.layout.number_bits(3.0, np.dtype("f"))
    x = f32(8)

    def f(p, x):
        return lax.cond(p, lambda x: x * 3.0, lambda x: x * 2.0, x)

    monkeypatch.setattr(
        compiler.layout, "words",
        lambda kernel: [w + (1 << 20) if w == three else w for w in right(kernel)],
    )  # fmt: skip
    run = fg.jit(f)
    np.testing.assert_array_equal(run(False, x), x * 2)
    with raises(r"in cond: kernel mul") as caught:
        run(True, x)
    assert len(re.findall(r"\n  .* = mul ", str(caught.value))) == 1


# --------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x @ x + 1) @ (x * 2 @ x),
        lambda x: fnp.tanh(x @ x).T @ fnp.sin(x @ x.T),
    ],
)
def test_memory_that_was_overwritten_is_noticed(f, monkeypatch):
    x = f32(16, 16)
    fg.jit(lambda x: f(x))(x)
    right = memory._place
    monkeypatch.setattr(memory, "_place", lambda slots: ([0] * len(slots), right(slots)[1]))
    with pytest.raises(
        KernelMismatchError,
        match=r"(?s)step \d+ reads float32\[16, 16\] that step \d+ wrote.*test_checked\.py:\d+",
    ):
        fg.jit(lambda x: f(x))(x)
