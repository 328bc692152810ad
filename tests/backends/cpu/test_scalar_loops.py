"""Loops over single numbers run as one function, and compute what their kernels would."""

import signal
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cpu import scalar_loops
from fgrad.backends.cpu.compiler import compile_program
from fgrad.core import config
from fgrad.core.transforms.stage import hoist

X = np.float32(0.5)
ROWS = np.linspace(-2, 2, 11, dtype=np.float32)


def collatz(n):
    def step(s):
        n, steps = s
        return fnp.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1

    return lax.while_loop(lambda s: s[0] != 1, step, (n, 0))


def newton(x):
    return lax.while_loop(
        lambda s: (abs(s[0] * s[0] - x) > 1e-6 * x) & s[2], lambda s: (
            0.5 * (s[0] + x / s[0]), s[1] + 1, s[1] < 40,
        ), (x, 0, True),
    )  # fmt: skip


def exchanging(x):
    return lax.while_loop(lambda s: s[2] < 7, lambda s: (s[1], s[0], s[2] + 1), (x, x * 2, 0))


def restarting(x):
    """A carry that becomes a constant, and one that stays as it is."""
    return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, 2.5, s[2]), (0, x, x + 1))


def never(x):
    return lax.while_loop(lambda s: s < -1, lambda s: s + 1, x)


def summed(rows):
    return lax.scan(lambda c, v: (c * 0.9 + v, (fnp.tanh(c), c > 0, 1)), np.float32(0.25), rows)


def reversed_(rows):
    return lax.scan(lambda c, v: (c - v, c), np.float32(0), rows, reverse=True)


def counted(x):
    return lax.fori_loop(0, 9, lambda i, c: c * 1.5 + i, x)


def nested(rows):
    def step(c, v):
        inner = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, fnp.sin(s[1]) + v), (0, c))
        return inner[1], lax.fori_loop(0, 4, lambda _i, y: y * 0.5 + v, c)

    return lax.scan(step, np.float32(0.1), rows)


def beside_arrays(x):
    """Loops over numbers in a loop over arrays."""

    def step(c, _):
        limit = c[0] * 0.5 + 5
        k = lax.while_loop(lambda s: s < limit, lambda s: s + 1.5, c[1])
        return c * 0.5 + k, k

    return lax.scan(step, fnp.stack([x, x + 1, x - 1]), None, length=6)


FUNCTIONS = {
    "collatz": (collatz, np.int32(27)),
    "newton": (newton, X),
    "exchanging": (exchanging, X),
    "restarting": (restarting, X),
    "never": (never, X),
    "summed": (summed, ROWS),
    "strided": (lambda x: summed(x[::2]), ROWS),
    "reversed": (reversed_, ROWS),
    "empty": (summed, ROWS[:0]),
    "counted": (counted, X),
    "nested": (nested, ROWS),
    "beside arrays": (beside_arrays, X),
}


def functions(f, x):
    """The functions that the loops of a program are."""
    plan = compile_program(hoist(fg.make_jaxpr(f)(x).jaxpr)).plan
    return [found for _, found in scalar_loops.scalar_loops(plan)]


def same(got, want):
    for a, b in zip(fg.tree.leaves(got), fg.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("call_ns", [None, 0.0], ids=["at once", "step by step"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loop_is_a_function_and_gives_the_same_bits(name, call_ns, monkeypatch):
    f, x = FUNCTIONS[name]
    if call_ns is not None:
        monkeypatch.setattr(scalar_loops, "_CALL_NS", call_ns)
    assert functions(f, x)
    got = fg.jit(lambda x: f(x))(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalar_loops, "scalar_loop", lambda _loop: None)
        want = fg.jit(lambda x: f(x))(x)
    same(got, want)
    with config.check():
        same(fg.jit(lambda x: f(x))(x), want)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "float64"])
def test_numbers_of_any_width(dtype):
    one = np.asarray(3, dtype)

    def f(x):
        y = lax.convert_element_type(x, np.float32)
        return lax.while_loop(
            lambda s: s[1] < 50, lambda s: (s[0] * 3 + 1, s[1] + 7, ~s[2], s[3] * 1.01),
            (x, np.int16(1), x > 2, y),
        )  # fmt: skip

    assert len(functions(f, one)) == 1
    same(fg.jit(f)(one), f(fnp.asarray(one)))


def test_other_numbers_need_no_other_code():
    def loop(limit, factor):
        def f(x):
            return lax.while_loop(lambda s: s < limit, lambda s: s * factor + 1, x)

        return f

    (a,), (b,) = (functions(loop(*c), X) for c in ((1000.0, 1.5), (77.0, 2.5)))
    assert a.text == b.text
    assert a.numbers != b.numbers
    for limit, factor in ((1000.0, 1.5), (77.0, 2.5)):
        same(fg.jit(loop(limit, factor))(X), loop(limit, factor)(fnp.asarray(X)))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: lax.scan(lambda c, _: (fnp.stack([c[0], c[1] * 2]), None), fnp.stack([x, x]),
                           None, length=3),
        lambda x: lax.scan(lambda c, _: (fnp.sum(fnp.stack([c, c])), None), x, None, length=3),
        lambda x: lax.scan(lambda c, _: (c * 2, None), x.astype("bfloat16"), None, length=3),
        lambda x: lax.scan(lambda c, _: (c * 1j, None), x.astype("complex64"), None, length=3),
        lambda x: lax.scan(lambda c, _: (lax.cond(c > 0, fnp.sin, fnp.cos, c), None), x, None,
                           length=3),
    ],
    ids=["arrays", "a reduction", "narrow floats", "complex numbers", "a choice"],
)  # fmt: skip
def test_other_loops_stay_tapes(f):
    assert not functions(f, X)
    same(fg.jit(f)(X)[0], f(fnp.asarray(X))[0])


def test_gradients_of_such_loops():
    f = fg.jit(fg.grad(lambda rows: summed(rows)[0] + fnp.sum(summed(rows)[1][0])))
    want = fg.grad(lambda rows: summed(rows)[0] + fnp.sum(summed(rows)[1][0]))(ROWS)
    np.testing.assert_allclose(f(ROWS), want, rtol=1e-5)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
def test_a_loop_without_end_can_be_interrupted():
    def stop(_number, _frame):
        raise KeyboardInterrupt

    f = fg.jit(lambda x: lax.while_loop(lambda s: s > -1.0, lambda s: s * 0.5 + 1.0, x))
    f.lower(X).compile()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            f(X)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_share_a_loop():
    f = fg.jit(collatz)
    numbers = [np.int32(n) for n in (27, 97, 871, 6171)]
    want = [int(f(n)[1]) for n in numbers]
    assert want == [111, 118, 178, 261]
    wrong = []

    def work(n, steps):
        wrong.extend(n for _ in range(50) if int(f(n)[1]) != steps)

    threads = [threading.Thread(target=work, args=a) for a in zip(numbers, want, strict=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
