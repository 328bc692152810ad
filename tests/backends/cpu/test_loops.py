"""Loops and branches that run without Python: equal to eager rules, interruptible, shared."""

import os
import signal
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.api.execution import runnable
from fgrad.backends.cpu import compiler
from fgrad.backends.cpu.engine import engine
from fgrad.backends.cpu.functions import Functions
from fgrad.compile.loops import fixed_steps, places
from fgrad.compile.plan import Added, Launch, Loop, Patch, check_plan
from fgrad.compile.run_plan import run_plan
from fgrad.core import config
from fgrad.errors import KernelMismatchError

RNG = np.random.default_rng(0)


def normal(*shape, dtype="f"):
    return RNG.normal(size=shape).astype(dtype)


def network(w, h, xs):
    """Products, a kernel, and an output that is the carry."""

    def step(h, x):
        h = fnp.tanh(h @ w + x @ w.T)
        return h, h

    return lax.scan(step, h, xs)


def newton(x):
    return lax.while_loop(
        lambda s: (s[1] < 20) & (fnp.abs(s[0] ** 2 - 2).max() > 1e-6),
        lambda s: (s[0] - (s[0] ** 2 - 2) / (2 * s[0]), s[1] + 1),
        (x, 0),
    )


def collatz(n):
    """A choice in a loop in a loop, over integers and bools."""

    def count(n):
        def step(s):
            n, k, even = s
            n = lax.cond(even, lambda n: n // 2, lambda n: 3 * n + 1, n)
            return n, k + 1, n % 2 == 0

        return lax.while_loop(lambda s: s[0] > 1, step, (n, 0, n % 2 == 0))[1]

    return lax.scan(lambda best, i: (fnp.maximum(best, count(i)), count(i)), 0, fnp.arange(n))


def delayed(x):
    """Carries that become other carries: a value is seen for three more steps."""

    def step(s, v):
        a, b, c, d = s
        return (a * 0.5 + v, a, b, c), a + d

    return lax.scan(step, (x[0], x[1], x[2], x[3]), x)


CASES = {
    "cumulative": (lambda x: lax.scan(lambda c, v: (c + v, c * 2), x[0] * 0, x), [(5, 3)]),
    "network": (network, [(6, 6), (2, 6), (9, 2, 6)]),
    "gradient": (
        fg.grad(lambda w, h, xs: (network(w, h, xs)[1] ** 2).sum(), (0, 1, 2)),
        [(6, 6), (2, 6), (9, 2, 6)],
    ),
    "backwards": (
        lambda x: lax.scan(lambda c, v: (c * 0.5 + v, fnp.exp(c)), x[0], x, reverse=True),
        [(7, 4)],
    ),
    "length 0": (lambda x: lax.scan(lambda c, v: (c + v, c * 2), x[0], x[1:1]), [(3, 4)]),
    "length 1": (lambda x: lax.scan(lambda c, v: (c + v, c * 2), x[0], x[1:2]), [(3, 4)]),
    "length 2": (lambda x: lax.scan(lambda c, v: (c + v, c * 2), x[0], x[1:3]), [(3, 4)]),
    "no elements": (lambda x: lax.scan(lambda c, v: (c + v, c * 2), x[0], x), [(3, 0)]),
    "swap": (lambda a, b: lax.fori_loop(0, 5, lambda _, s: (s[1], s[0]), (a, b)), [(3,), (3,)]),
    "swap and change": (
        lambda a, b: lax.fori_loop(0, 6, lambda i, s: (s[1], s[0] + i), (a, b)), [(3,), (3,)],
    ),
    "turns": (
        lambda a, b, c: lax.fori_loop(0, 4, lambda _, s: (s[1], s[2], s[0]), (a, b, c)),
        [(3,), (3,), (3,)],
    ),
    "delayed": (delayed, [(9, 5)]),
    "one value in two carries": (
        lambda x: lax.scan(lambda s, v: ((s[0] + s[1] * v,) * 2, s[1]), (x[0], x[1]), x), [(5, 2)],
    ),
    "shown as it was": (lambda x: lax.scan(lambda c, v: (c * v, (c, c, v)), x[0], x), [(4, 3)]),
    "input becomes carry": (lambda x: lax.scan(lambda c, v: (v, c), x[0], x), [(4, 3)]),
    "constant carry and output": (
        lambda x: lax.scan(lambda c, v: (fnp.float32(2), 3.0), fnp.float32(1), x),
        [(4, 3)],
    ),
    "carry that stays": (
        lambda x: lax.scan(lambda s, v: ((s[0], s[1] + s[0]), s[0] * v), (x[0], x[1]), x), [(4, 3)],
    ),
    "closed over": (
        lambda x, w: lax.scan(lambda c, v: (w, c * v + w), x[0], x), [(4, 3), (3,)],
    ),
    "sliced and transposed": (
        lambda x, w: lax.scan(lambda c, v: (c + v[0], v * w.T), x[0, 0], x[::2, 1:]),
        [(6, 4, 3), (3, 3)],
    ),
    "broadcast": (
        lambda x: lax.scan(lambda c, v: (c + v, c), x, fnp.broadcast_to(x * 2, (5, 3))), [(3,)],
    ),
    "newton": (newton, [(4,)]),
    "no step": (lambda x: lax.while_loop(lambda s: s[0] > 1e9, lambda s: s * 2, x), [(4,)]),
    "never ends by itself": (
        lambda x: lax.while_loop(lambda s: s[1], lambda s: (s[0] + 1, s[0][0] < 9), (x, True)),
        [(4,)],
    ),
    "collatz": (lambda x: (*collatz(20), x), [()]),
    "switch": (
        lambda x: lax.scan(
            lambda c, i: (lax.switch(i, [lambda c: c, lambda c: c * 2, lambda c: -c], c), c),
            x, fnp.array([0, 1, 2, 5, -1]),
        ),
        [(3,)],
    ),
    "branches that agree": (
        lambda x, y: lax.cond(x.sum() > 0, lambda a, b: (a, b, a, 1.0),
                              lambda a, b: (b, a + 1, b, 2.0), x, y),
        [(3,), (3,)],
    ),
    "stack of products": (
        lambda x: lax.scan(lambda c, v: (c @ v, fnp.einsum("bij,bkj->bik", c, v)), x[0], x),
        [(4, 2, 3, 3)],
    ),
    "copied for a product": (
        lambda x: lax.scan(lambda c, v: (c * 0.5, fnp.einsum("ijk,lji->kl", c, v)), x[0], x),
        [(4, 2, 2, 2)],
    ),
    "matrix and vector": (
        lambda w, x: lax.scan(lambda c, v: (w @ c, fnp.dot(c, v)), x[0], x), [(3, 3), (5, 3)],
    ),
    "many rows": (
        lambda x: lax.scan(lambda c, v: (c + v.sum(0), (c * v).sum(1)), x[0, 0], x), [(3, 700, 40)],
    ),
    "loop in loop in loop": (
        lambda x: lax.fori_loop(
            0, 3, lambda i, a: lax.fori_loop(
                0, i + 1, lambda j, b: lax.scan(lambda c, v: (c + v * j, None), b, x)[0], a),
            x[0]),
        [(4, 3)],
    ),
    "pullback of a while loop": (
        lambda x: fg.vjp(newton, x)[1]((x, np.zeros((), fg.dtypes.float0))), [(4,)],
    ),
    "lanes": (
        fg.vmap(lambda v: lax.while_loop(lambda s: s.sum() < 100, lambda s: s * s + 1.5, v)),
        [(5, 3)],
    ),
    "lanes of lanes": (
        fg.vmap(fg.vmap(
            lambda v: lax.while_loop(lambda s: s.sum() < 100, lambda s: s * s + 1.5, v))),
        [(2, 5, 3)],
    ),
    "boxes in place": (
        lambda x: lax.fori_loop(
            0, 6, lambda i, c: lax.dynamic_update_slice(c, c.sum(0)[None, :2] * i, (i, i)), x),
        [(5, 3)],
    ),
    "boxes of two versions": (
        lambda x: lax.scan(
            lambda c, i: (lax.dynamic_update_slice(
                lax.dynamic_update_slice(c, c[1:2] + i, (i - 1, 0)), c[:1, :1], (0, i)), c.sum()),
            x, fnp.arange(7, dtype=fnp.int8)),
        [(5, 3)],
    ),
    "boxes of a carry that is shown": (
        lambda x: lax.scan(
            lambda c, i: ((lambda d: (d, d + c))(lax.dynamic_update_slice(c, x[:2], (i, 0)))),
            x, fnp.arange(4)),
        [(5, 3)],
    ),
    "boxes and what they make": (
        lambda x: lax.scan(
            lambda c, i: ((lambda d: (d, fnp.tanh(d).sum(1)))(
                lax.dynamic_update_slice(c, x[:2] * 2, (i, 0)))),
            x, fnp.arange(4)),
        [(5, 3)],
    ),
    "a box of a scalar": (
        lambda x: lax.fori_loop(
            0, 4, lambda i, c: (lax.dynamic_update_slice(c[0], c[1][None], (2 * i,)), c[1] + 1),
            (x, x[0])),
        [(5,)],
    ),
    "the same in each step": (
        lambda x, w: lax.scan(lambda c, v: (fnp.tanh((c + v) @ (fnp.exp(w) * 0.1).T), c), x[0], x),
        [(4, 3, 3), (3, 3)],
    ),
    "the same in each inner step": (
        lambda x, w: lax.fori_loop(
            0, 3, lambda i, s: (s[0] * 0.5, lax.while_loop(
                lambda c: c[0] + fnp.exp(s[0]).sum() * 0 < 4,
                lambda c: (c[0] + 1, (c[1] + 1) @ (s[0] * i).T + fnp.cos(s[0])[0]),
                (0.0, s[1]))[1]), (w, x)),
        [(3,), (3, 3)],
    ),
    "a box of what stays": (
        lambda x, w: lax.scan(
            lambda c, i: (c + 1, lax.dynamic_update_slice(w * 2, c, (i,)).sum()), x, fnp.arange(3)),
        [(2,), (5,)],
    ),
    "maps": (lambda x: lax.map(lambda v: v * v.sum(), x), [(5, 3)]),
}  # fmt: skip


def loops_of(plan):
    return [s for s in plan.steps if isinstance(s, Loop)]


def arrays(shapes, dtype="f"):
    return [normal(*s, dtype=dtype) for s in shapes]


def assert_close(got, want, rtol=1e-5):
    """Close relative to the largest element: sums cancel."""
    got, want = fg.tree.leaves(got), fg.tree.leaves(want)
    for x, y in zip(got, want, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        x, y = np.asarray(x), np.asarray(y)
        atol = rtol * max(1.0, float(np.max(np.abs(y), initial=0)))
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_loop_equals_the_eager_rule(name, dtype):
    f, shapes = CASES[name]
    args = arrays(shapes, dtype)
    compiled = fg.jit(f)
    steps = compiled.lower(*args).schedule()
    assert "loop" in {s.kind for s in steps}
    assert not any(s.reason for s in steps)
    before = [x.copy() for x in args]
    got = compiled(*args), compiled(*args)
    for x, old in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, old)
    with config.cpu_compiler("numpy"):
        want = fg.jit(f)(*args)
    for values in got:
        assert_close(values, want, 1e-5 if dtype == "f" else 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_plan_means_what_its_loops_compute(name):
    f, shapes = CASES[name]
    args = arrays(shapes)
    program = runnable(fg.jit(f).lower(*args)._entry.jaxpr)
    check_plan(program.plan)
    entry = fg.jit(f).lower(*args)._entry
    inputs = [*(np.asarray(c) for c in entry.consts), *args]
    want = run_plan(runnable(entry.jaxpr).plan, inputs)
    assert_close(fg.tree.leaves(fg.jit(f)(*args)), want)


@pytest.mark.parametrize("steps", [0, 1, 2, 63, 64, 65, 128, 129, 200, 1000, 5000])
def test_a_while_loop_keeps_what_its_pullback_needs(steps):
    def f(w, x):
        def step(s):
            i, x = s
            return i + 1, fnp.sin(x * w) * 0.3 + x * 0.5

        return lax.while_loop(lambda s: s[0] < steps, step, (0, x))[1].sum()

    w, x = np.array([0.3, -0.9, 1.2]), np.array([0.5, 1.0, -2.0])
    g = fg.jit(fg.grad(f, (0, 1)))
    kinds = {s.name: s.kind for s in g.lower(w, x).schedule()}
    assert kinds["while_saved"] == "loop"
    with config.cpu_compiler("numpy"):
        want = fg.jit(fg.grad(f, (0, 1)))(w, x)
    assert_close(g(w, x), want, 1e-9)


def test_products_are_added_to_a_carry_in_place():
    def f(a, x):
        return lax.scan(lambda c, v: (c + v.T @ v, v.sum()), a, x)

    def shown(a, x):
        return lax.scan(lambda c, v: (c + v.T @ v, c), a, x)

    def used(a, x):
        return lax.scan(lambda c, v: (c + v.T @ v, v @ (c + v.T @ v)), a, x)

    a, x = normal(3, 3), normal(5, 4, 3)
    for g, count in ((f, 1), (shown, 0), (used, 0)):
        (loop,) = loops_of(runnable(fg.jit(g).lower(a, x)._entry.jaxpr).plan)
        assert sum(isinstance(s, Added) for s in loop.plans[0].steps) == count
        with config.cpu_compiler("numpy"):
            want = fg.jit(g)(a, x)
        before = a.copy()
        assert_close(fg.jit(g)(a, x), want)
        np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize(
    ("name", "patches", "copies"),
    [("boxes in place", 1, 0), ("boxes of two versions", 2, 1), ("boxes and what they make", 1, 0),
     ("boxes of a carry that is shown", 1, 1), ("a box of a scalar", 1, 0)],
)  # fmt: skip
def test_boxes_of_a_carry_are_written_in_place(name, patches, copies):
    f, shapes = CASES[name]
    (loop,) = loops_of(runnable(fg.jit(f).lower(*arrays(shapes))._entry.jaxpr).plan)
    steps = loop.plans[0].steps
    assert sum(isinstance(s, Patch) for s in steps) == patches
    assert sum(isinstance(s, Launch) and s.kernel.name == "copy" for s in steps) == copies


@pytest.mark.parametrize(
    "term",
    [
        lambda k, x: fnp.zeros_like(x).at[k % 3].add(x[0]),
        lambda k, x: fnp.ones_like(x).at[k % 3, k % 4].set(k * x[0, 0]),
        lambda k, x: lax.sort(x * k, 1),
        lambda k, x: lax.conv(x.reshape(1, 1, 3, 4), x[None, None, :, :3] * k, (1, 1), "SAME"),
    ],
    ids=["scatter_add", "scatter", "sort", "convolution"],
)
def test_what_routines_compute_is_added_to_a_carry(term):
    def f(c, x):
        return lax.fori_loop(0, 5, lambda k, c: c + term(k, x), c)

    x = normal(3, 4)
    c = normal(*term(1, fnp.asarray(x)).shape)
    assert_close([fg.jit(f)(c, x)], [f(c, x)])


def test_results_are_not_shared_with_operands_or_later_calls():
    f = fg.jit(lambda a, b: lax.fori_loop(0, 4, lambda _, s: (s[1], s[0]), (a, b)))
    a, b = fnp.ones(3), fnp.zeros(3)
    first = f(a, b)
    second = f(first[1], first[0])
    np.testing.assert_array_equal(first[0], np.ones(3))
    np.testing.assert_array_equal(second[0], np.zeros(3))
    assert not np.shares_memory(np.asarray(first[0]), np.asarray(a))


def test_complex_products_run_in_a_loop():
    z = (normal(3, 3) + 1j * normal(3, 3)).astype("F")
    f = fg.jit(lambda z: lax.scan(lambda c, _: (z @ c, None), z, None, length=3)[0])
    assert [s.kind for s in f.lower(z).schedule()] == ["loop"]
    np.testing.assert_allclose(f(z), z @ z @ z @ z, rtol=1e-4)


def test_a_loop_that_needs_python_says_why():
    def f(x):
        return lax.scan(lambda c, v: (fnp.sort(c + v), fnp.fft.fft(c).real), x[0], x)

    x = normal(4, 3)
    (step,) = [s for s in fg.jit(f).lower(x).schedule() if s.steps]
    assert step.kind == "host"
    assert "only Python can run" in step.reason
    assert "test_loops.py" in step.reason
    with config.cpu_compiler("numpy"):
        want = fg.jit(f)(x)
    assert_close(fg.jit(f)(x), want)


def test_check_looks_at_the_kernels_of_a_loop(monkeypatch):
    right, three = compiler.layout.words, compiler.layout.number_bits(3.0, np.dtype("f"))
    x = normal(4, 3)

    def f(x):
        return lax.scan(lambda c, v: (c * 3.0 + v, None), x[0], x)[0]

    with config.check():
        assert_close(fg.jit(f)(x), f(x))
        monkeypatch.setattr(
            compiler.layout, "words",
            lambda kernel: [w + (1 << 20) if w == three else w for w in right(kernel)],
        )  # fmt: skip
        with pytest.raises(KernelMismatchError):
            fg.jit(lambda x: f(x))(x)


def test_threads_share_a_loop():
    f = fg.jit(network)
    inputs = [arrays([(6, 6), (2, 6), (200, 2, 6)]) for _ in range(4)]
    want = [f(*args) for args in inputs]
    wrong = []

    def work(args, expected):
        for _ in range(20):
            got = f(*args)
            if not np.array_equal(np.asarray(got[1]), np.asarray(expected[1])):
                wrong.append(got)

    threads = [threading.Thread(target=work, args=p) for p in zip(inputs, want, strict=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_workers_give_the_values_of_one_thread():
    f = CASES["many rows"][0]
    x = normal(3, 4000, 200)
    shared = fg.jit(f)(x)
    with config.cpu_compiler("numpy"):
        assert_close(shared, fg.jit(f)(x), 1e-4)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(fg.tree.leaves(shared), fg.tree.leaves(fg.jit(f)(x)), strict=True)
    )


def test_a_loop_without_end_can_be_interrupted():
    f = fg.jit(lambda x: lax.while_loop(lambda s: s > 0, lambda s: s * 0.5 + 1, x))
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()  # it needs Python, which the loop has released
    with pytest.raises(KeyboardInterrupt):
        f(np.float32(3))
    timer.join()
    g = fg.jit(lambda x: lax.while_loop(lambda s: s < 9, lambda s: s * 0.5 + 5, x))
    assert float(g(np.float32(3))) > 9


def test_a_loop_runs_through_ctypes(monkeypatch):
    portable = Functions(engine(), 1, direct=False)
    monkeypatch.setattr(compiler, "functions", lambda: portable)
    for name in ("network", "newton", "collatz"):
        f, shapes = CASES[name]
        args = arrays(shapes)
        with config.cpu_compiler("numpy"):
            want = fg.jit(f)(*args)
        assert_close(fg.jit(lambda *a, f=f: f(*a))(*args), want)


def test_an_interrupt_reaches_the_caller_through_ctypes(monkeypatch):
    portable = Functions(engine(), 1, direct=False)
    monkeypatch.setattr(compiler, "functions", lambda: portable)
    f = fg.jit(lambda x: lax.while_loop(lambda s: s > 0, lambda s: s * 0.25 + 1, x))
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.3)  # no other thread runs: the GIL is held
    try:
        with pytest.raises(KeyboardInterrupt):
            f(np.float32(3))
    finally:
        signal.signal(signal.SIGALRM, before)


def test_steps_that_stay_the_same_run_once():
    f, shapes = CASES["the same in each step"]
    (loop,) = loops_of(runnable(fg.jit(f).lower(*arrays(shapes))._entry.jaxpr).plan)
    (body,) = loop.plans
    once = [body.steps[i].kernel.name for i in fixed_steps(body, range(1))]
    assert once == ["exp_mul"]
    assert fixed_steps(body, ()) == []
    f = fg.jit(lambda w, x: lax.scan(lambda c, v: (c @ w.T, None), x[0], x)[0])
    w, x = normal(3, 3), normal(4, 3, 3)
    (loop,) = loops_of(runnable(f.lower(w, x)._entry.jaxpr).plan)
    once = [loop.plans[0].steps[i].kernel.name for i in fixed_steps(loop.plans[0], range(1))]
    assert once == ["copy"]  # w transposed, for a small product
    assert_close(f(w, x), x[0] @ w.T @ w.T @ w.T @ w.T)
    f, shapes = CASES["a box of what stays"]
    (loop,) = loops_of(runnable(fg.jit(f).lower(*arrays(shapes))._entry.jaxpr).plan)
    once = [loop.plans[0].steps[i].kernel.name for i in fixed_steps(loop.plans[0], range(1))]
    assert once == ["mul"]  # its copy is overwritten in each step


def test_places_of_carries():
    def plan_of(f, *shapes):
        (loop,) = loops_of(runnable(fg.jit(f).lower(*arrays(shapes))._entry.jaxpr).plan)
        params, (body,) = loop.eqn.params, loop.plans
        return list(places(body, params["num_consts"], params["num_carry"]).values())

    assert plan_of(CASES["cumulative"][0], (5, 3)) == [2]
    assert plan_of(CASES["network"][0], *CASES["network"][1]) == []
    assert plan_of(CASES["swap"][0], (3,), (3,)) == [2]  # of the counter
    assert max(plan_of(delayed, (9, 5))) == 5


@pytest.mark.parametrize("n", [3, 40, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_added_to_carries_of_any_size(n, dtype):
    rng = np.random.default_rng(n)
    a, b = (rng.normal(size=(4, n, n)).astype(dtype) for _ in range(2))

    def f(a, b):
        start = fnp.ones((n, n), dtype)
        return lax.scan(lambda c, ab: (c + ab[0] @ ab[1], None), start, (a, b))[0]

    expected = 1 + np.einsum("tij,tjk->ik", a.astype(np.float64), b)
    bound = 8 * n * np.finfo(dtype).eps * 4
    np.testing.assert_allclose(fg.jit(f)(a, b), expected, atol=bound, rtol=0)


@pytest.mark.parametrize("start", [np.uint8(200), np.uint64(2**63 + 5), np.int8(-2), np.int64(3)])
def test_boxes_that_start_outside_are_moved_inside(start):
    def f(x, i):
        return lax.fori_loop(0, 2, lambda _, x: lax.dynamic_update_slice(x, x[:2] * 3, (i,)), x)

    x = normal(9)
    i = fnp.asarray(start)
    np.testing.assert_array_equal(fg.jit(f)(x, i), f(fnp.asarray(x), i))
