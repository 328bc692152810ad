"""Compiled programs as a whole: right values for any input, thread and nesting; code used again."""

import gc
import threading
import weakref

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.api import execution
from fgrad.api.execution import runnable
from fgrad.backends.cpu import compiler
from fgrad.backends.cpu.engine import engine
from fgrad.backends.cpu.executable import Executable
from fgrad.core import config
from fgrad.errors import KernelMismatchError, ShapeError

RNG = np.random.default_rng(0)


def normal(*shape, dtype="f"):
    return RNG.normal(size=shape).astype(dtype)


def mixed(x, w):
    """Kernels, products, a library call, temporaries and several results."""
    h = fnp.tanh(x @ w)
    s = fg.nn.softmax(h, -1)
    return fnp.sort(s, -1) @ w.T, fnp.sum(h * s, 0), x


def program_of(f, *args):
    return runnable(fg.jit(f).lower(*args)._entry.jaxpr)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_a_program_equals_its_eager_function(dtype):
    x, w = normal(5, 4, dtype=dtype), normal(4, 6, dtype=dtype)
    assert isinstance(program_of(mixed, x, w), Executable)
    rtol = 1e-5 if dtype == "f" else 1e-12
    for got, expected in zip(fg.jit(mixed)(x, w), mixed(x, w), strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("shape", [(), (1,), (33,)])
@pytest.mark.parametrize("f", [lax.digamma, lax.lgamma])
def test_halves_made_of_doubles(f, shape):
    x = np.full(shape, 1.5, np.float16)
    np.testing.assert_allclose(fg.jit(lambda x: lax.tanh(f(x)))(x), lax.tanh(f(x)), rtol=2e-3)


def test_inputs_of_any_layout_are_accepted():
    f = fg.jit(lambda x: fnp.exp(x) * 2)
    x = normal(6, 4)
    raw = np.zeros(6 * 4 * 4 + 1, np.uint8)[1:].view("f").reshape(6, 4)
    raw[:] = x
    wide = np.zeros((6, 8), "f")
    wide[:, ::2] = x
    for y in (
        x,
        raw,
        wide[:, ::2],
        x.T.copy().T,
        x[::-1].copy()[::-1],
        np.broadcast_to(x, x.shape),
    ):
        np.testing.assert_array_equal(f(y), f(x))
    np.testing.assert_array_equal(f(np.broadcast_to(x[0], (6, 4))), f(x[[0] * 6]))
    for shape in ((), (0, 3), (1,)):
        assert f(np.ones(shape, "f")).shape == shape


def test_results_are_fresh_and_inputs_unchanged():
    f = fg.jit(mixed)
    x, w = normal(300, 300), normal(300, 300)  # results large enough for blocks
    kept = x.copy(), w.copy()
    first = [np.asarray(y).copy() for y in f(x, w)]
    held = f(x, w)
    f(w, x)
    for y, expected in zip(held, first, strict=True):
        np.testing.assert_array_equal(y, expected)
        assert not np.shares_memory(np.asarray(y), x)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(w, kept[1])


@pytest.mark.parametrize("n", [8, 200])  # an arena of its own, and a shared slab
def test_threads_share_a_program(n):
    f, wrong = fg.jit(mixed), []
    w = normal(n, n)
    inputs = [normal(n, n) for _ in range(4)]
    expected = [[np.asarray(y) for y in f(x, w)] for x in inputs]

    def run(k):
        for _ in range(20):
            for y, e in zip(f(inputs[k], w), expected[k], strict=True):
                if not np.array_equal(y, e):
                    wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_program_may_run_inside_itself_and_what_a_callback_keeps_stays():
    seen, depth = [], []
    x = normal(50)

    def keep(v):
        seen.append(v)
        if len(depth) < 3:
            depth.append(1)
            f(x * len(depth))

    @fg.jit
    def f(x):
        y = fnp.tanh(fnp.sort(x)) * 3  # a temporary
        fg.debug.callback(keep, y)
        return fnp.sum(fnp.exp(y))

    out = f(x)
    np.testing.assert_allclose(out, np.sum(np.exp(np.tanh(np.sort(x)) * 3)), rtol=1e-5)
    assert len(seen) == 4
    for k, v in enumerate(seen):
        np.testing.assert_allclose(v, np.tanh(np.sort(x * max(k, 1))) * 3, rtol=1e-5)


def test_loop_bodies_are_compiled_with_the_program_around_them(monkeypatch):
    made = []
    monkeypatch.setattr(
        execution,
        "_compiler",
        lambda: lambda j, d: made.append(j) or compiler.compile_program(j, d),
    )

    def f(x):
        return fg.lax.scan(lambda c, _: (fnp.tanh(c) + 1, c), x, None, length=5)[1]

    def with_a_library(x):
        return fg.lax.scan(lambda c, _: (fnp.sort(c) + 1, c), x, None, length=5)[1]

    np.testing.assert_allclose(fg.jit(f)(normal(3)).shape, (5, 3))
    assert len(made) == 1
    np.testing.assert_allclose(fg.jit(with_a_library)(normal(3)).shape, (5, 3))
    assert len(made) == 3  # Python runs the loop, each step compiled
    f(normal(3))
    assert len(made) == 3  # short eager loops compile nothing
    fg.lax.scan(lambda c, _: (fnp.tanh(c) + 1, c), normal(3), None, length=300)
    assert len(made) == 4


def test_a_new_batch_size_needs_no_new_code(monkeypatch):
    f = fg.jit(lambda x, w: fg.nn.softmax(fnp.tanh(x @ w), -1))
    w = normal(7, 9)
    f(normal(5, 7), w)

    def fail(*_args, **_kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(engine(), "_code", fail)
    x = normal(6, 7)
    np.testing.assert_allclose(np.asarray(f(x, w)).sum(-1), np.ones(6), rtol=1e-5)


def test_a_mean_over_another_batch_needs_no_new_code(monkeypatch):
    def loss(w, x):
        return fnp.mean(fnp.tanh(x @ w).sum(-1))

    f = fg.jit(fg.value_and_grad(loss))
    w = normal(7, 9)
    f(w, normal(8, 7))

    def fail(*_args, **_kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(engine(), "_code", fail)
    x = normal(6, 7)
    value, gradient = f(w, x)
    expected = fg.value_and_grad(loss)(w, x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-6)


def test_a_failing_step_names_its_equation_and_line():
    @fg.jit
    def f(x):
        return fg.pure_callback(lambda v: 1 / 0, x, x * 2) + 1

    with pytest.raises(ZeroDivisionError) as caught:
        f(normal(3))
    [note] = [n for n in caught.value.__notes__ if n.startswith("fgrad: in")]
    assert "callback(f32[3])" in note
    assert "test_compiler.py" in note


def test_wrong_types_are_refused_where_they_are_not_known_to_fit():
    program = program_of(lambda x: x + 1, normal(3))
    with pytest.raises(ShapeError, match=r"takes float32\[3\], got float64\[3\]"):
        program(np, [np.ones(3)])


def test_a_program_that_is_gone_leaves_nothing_behind():
    gc.collect()
    gc.disable()
    try:
        program = compiler.compile_program(
            fg.jit(mixed).lower(normal(60, 60), normal(60, 60))._entry.jaxpr
        )
        program.run(normal(60, 60), normal(60, 60))
        gone = weakref.ref(program)
        run = program.run
        gone_run = weakref.ref(run)
        del program, run
        assert gone() is None
        assert gone_run() is None
    finally:
        gc.enable()


def test_check_names_a_kernel_that_is_wrong(monkeypatch):
    right = compiler.layout.words

    three = compiler.layout.number_bits(3.0, np.dtype("f"))

    def wrong(kernel):
        return [w + (1 << 20) if w == three else w for w in right(kernel)]

    x = normal(20)
    with config.check():
        np.testing.assert_allclose(fg.jit(lambda x: x * 3.0)(x), x * 3, rtol=1e-6)
        monkeypatch.setattr(compiler.layout, "words", wrong)
        with pytest.raises(KernelMismatchError, match=r"kernel mul .*\n  .*mul .* at .*test_comp"):
            fg.jit(lambda x: x * 3.0)(x)


def test_a_kernel_prints_its_loops_and_lines_but_not_its_source():
    (kernel,) = fg.jit(lambda x: fnp.tanh(x) * 2.0).lower(normal(20)).kernels()
    text = repr(kernel)
    assert "kernel tanh_mul" in text
    assert text.endswith(
        "(test_a_kernel_prints_its_loops_and_lines_but_not_its_source.<locals>.<lambda>)"
    )
    assert "40 operations, 160 bytes" in text
    assert len(text.splitlines()) < 20 < len(kernel.source.splitlines())


def test_numpy_can_be_asked_for():
    x = normal(4)
    with config.cpu_compiler("numpy"):
        f = fg.jit(fnp.sin)
        assert not isinstance(program_of(fnp.sin, x), Executable)
        np.testing.assert_array_equal(f(x), np.sin(x))
        assert [s.kind for s in f.lower(x).schedule()] == ["library"]
        assert f.lower(x).kernels() == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite"), "is not installed"),
        (ImportError("no symbol"), r"cannot be loaded \(no symbol\)"),
        (OSError("no shared object"), r"cannot be loaded \(no shared object\)"),
    ],
)
def test_without_llvmlite_numpy_runs_programs_and_that_is_said(monkeypatch, error, told):
    load = execution.import_module

    def missing(name):
        if name.startswith("llvmlite"):
            raise error
        return load(name)

    monkeypatch.setattr(execution, "import_module", missing)
    execution._compiler.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=f"llvmlite {told}"):
            assert not isinstance(program_of(fnp.sin, normal(4)), Executable)
        x = normal(4)
        np.testing.assert_array_equal(fg.jit(fnp.cos)(x), np.cos(x))  # said once: no warning
    finally:
        execution._compiler.cache_clear()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3)])
def test_views_of_empty_arrays_reach_library_steps(shape):
    def f(x):
        y = fnp.tanh(x)
        return fnp.sort(y.T, -1), fnp.sort(x[::-1].T, 0), y[1:] @ y.T

    x = normal(*shape)
    for got, expected in zip(fg.jit(f)(x), f(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
