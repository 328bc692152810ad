"""Donated arguments: results are written into them, and into nothing that anybody can see."""

import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, optim
from fgrad.core import config
from fgrad.errors import BufferDonatedError, DonationError, OutOfMemoryError

SIZES = [5, 40_000]  # arrays of NumPy's own, and blocks of the pool


def array(n, start=0.0):
    return fnp.asarray(np.arange(n, dtype=np.float32) + start, copy=True)


def address(x):
    return np.asarray(x).ctypes.data


def host(x):
    return np.array(np.asarray(x))


def fresh(n):
    """An array that a compiled program has made."""
    return fg.jit(lambda i: fnp.sin(i))(np.arange(n, dtype=np.float32))


@pytest.mark.parametrize("n", SIZES)
def test_a_result_is_written_into_the_donated_array(n):
    f = fg.jit(lambda x, y: x * x + y, donate_argnums=0)
    x, y = fresh(n), fresh(n)
    expected, place = host(x) ** 2 + host(y), address(x)
    for _ in range(2):
        out = f(x, y)
        assert address(out) == place
        np.testing.assert_allclose(out, expected, rtol=1e-6)
        x, expected = out, expected**2 + host(y)


@pytest.mark.parametrize("n", SIZES)
def test_a_result_without_the_input_takes_its_memory_after_the_last_use(n):
    def f(x, y):
        s = fnp.sum(x * y)  # the last use of x
        return fnp.cos(y) * s

    x, y = fresh(n), array(n)
    expected, place = f(host(x), host(y)), address(x)
    out = fg.jit(f, donate_argnums=0)(x, y)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-3)
    assert address(out) == place


def test_optimizer_state_is_updated_in_place():
    optimizer = optim.adamw(1e-2, weight_decay=0.1)
    shapes = [(40, 30), (30,), (300, 200)]
    rng = np.random.default_rng(0)
    params = [fnp.asarray(rng.normal(size=s).astype(np.float32), copy=True) for s in shapes]
    grads = [rng.normal(size=s).astype(np.float32) for s in shapes]

    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    step, plain = fg.jit(update, donate_argnums=(0, 1)), fg.jit(update)
    state = optimizer.init(params)
    want = (fg.tree.map(lambda x: fnp.asarray(x, copy=True), t) for t in (params, state))
    want = tuple(want)
    memory = step.lower(params, state, grads).memory_analysis()
    assert memory.result_bytes == 4  # the count of steps, which each element needs
    assert len(memory.taken) == 3 * len(shapes)
    params, state = step(params, state, grads)  # zeros may be shared until now

    def places():
        return sorted(address(x) for x in fg.tree.leaves((params, state)) if x.ndim)

    before = places()
    params, state = step(params, state, grads)
    assert places() == before
    for _ in range(2):
        want = plain(*want, grads)
    for a, b in zip(fg.tree.leaves((params, state)), fg.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


REFUSED = {
    "read afterwards": lambda x, y: (y * 2, lax.stop_gradient(fnp.sum(fnp.sin(y * 2) * x))),
    "read elsewhere": lambda x, y: (x[::-1] + y,),
    "reduced by the kernel": lambda x, y: (x - fnp.sum(x) * y,),
    "sorted": lambda x, y: (fnp.sort(x), y + 1),
    "read by neighbours": lambda x, y: (fnp.concatenate([x[1:], x[:1]]) * y,),
    "a cumulative sum": lambda x, y: (fnp.cumsum(x) + y,),
    "returned, and read": lambda x, y: (x, x * y),
    "returned twice": lambda x, y: (x, x),
    "returned as a view": lambda x, y: (x.reshape(-1, 1), x * y),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("n", SIZES)
def test_programs_compute_the_same_with_donation(name, n):
    f = REFUSED[name]
    x, y = array(n, 1.0), fnp.sin(array(n))
    want = [host(z) for z in fg.jit(f)(x, y)]
    got = fg.jit(f, donate_argnums=0)(x, y)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(BufferDonatedError):
        x + 1


def test_a_returned_argument_is_handed_on():
    f = fg.jit(lambda x, y: (x, y + 1), donate_argnums=0)
    x = fresh(SIZES[1])
    place, want = address(x), host(x)
    out, _ = f(x, 1.0)
    assert address(out) == place
    np.testing.assert_array_equal(out, want)


HOLDERS = {
    "a view": lambda x: x[2:],
    "a reshaped array": lambda x: x.reshape(1, -1),
    "numpy.asarray": np.asarray,
    "a view of a view": lambda x: np.asarray(x)[1:][1:],
    "memoryview": lambda x: memoryview(np.asarray(x)),
    "dlpack": lambda x: np.from_dlpack(x),
    "the same buffer": lax.stop_gradient,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("make", [fresh, array])
def test_what_somebody_holds_is_not_overwritten(holder, n, make):
    x = make(n)
    held = HOLDERS[holder](x)
    before = host(held)
    out = fg.jit(lambda x: x * 3 + 1, donate_argnums=0)(x)
    np.testing.assert_array_equal(host(held), before)
    assert not np.shares_memory(np.asarray(out), np.asarray(held))


@pytest.mark.parametrize("n", SIZES)
def test_residuals_and_closures_say_what_is_gone(n):
    x = fresh(n)
    _, pull = fg.vjp(lambda x: x * x, x)
    g = fg.jit(lambda y: x + y)
    g(0.0)
    fg.jit(lambda x: x + 1, donate_argnums=0)(x)
    with pytest.raises(BufferDonatedError):
        pull(fnp.ones(n))
    with pytest.raises(BufferDonatedError):
        g(0.0)


def test_the_same_buffer_donated_and_passed():
    """Two arrays over one buffer, one of them donated, or both."""
    for donate in (0, (0, 1)):
        x = fresh(40_000)
        y = lax.stop_gradient(x)
        want = host(x)
        f = fg.jit(lambda x, y: (x + 1, y * 2), donate_argnums=donate)
        a, b = f(x, y)
        np.testing.assert_array_equal(a, want + 1)
        np.testing.assert_array_equal(b, want * 2)


@pytest.mark.parametrize("count", [2, 20])  # one by one, and together
def test_an_array_given_twice_to_a_program_seen_before(count):
    f = fg.jit(lambda xs, ys: [x + y for x, y in zip(xs, ys, strict=True)], donate_argnums=0)
    ys = [fresh(5) for _ in range(count)]
    xs = [fresh(5) for _ in range(count)]
    for _ in range(3):  # the program is found at once from the second call on
        xs = f(xs, ys)
    want = [host(x) for x in xs]
    for bad in (([xs[0], *xs[:-1]], ys), (xs, [*ys[:-1], xs[0]]), ([*xs[:-1], ys[0]], ys)):
        with pytest.raises(DonationError, match="2 times, donated"):
            f(*bad)
    assert all(np.array_equal(x, w) for x, w in zip(xs, want, strict=True))
    shared = fnp.asarray(np.ones(5, np.float32))  # NumPy's own: it is copied
    with pytest.raises(DonationError, match="2 times, donated"):
        f([*xs[:-1], shared], [*ys[:-1], shared])
    outs = f([*xs[:-1], fresh(5)], ys)
    np.testing.assert_array_equal(outs[0], want[0] + host(ys[0]))


@pytest.mark.parametrize("count", [2, 20])
def test_arrays_that_somebody_sees_are_copied(count):
    f = fg.jit(lambda xs: [x + 1 for x in xs], donate_argnums=0)
    xs = [fresh(5) for _ in range(count)]
    for _ in range(3):
        seen = np.asarray(xs[1])
        want = seen.copy()
        xs = f(xs)
        np.testing.assert_array_equal(seen, want)
        np.testing.assert_array_equal(xs[1], want + 1)


def test_results_do_not_change_when_the_next_call_is_donated():
    f = fg.jit(lambda x: (x * 2, x + 1), donate_argnums=0)
    x = fresh(40_000)
    double, more = f(x)
    kept = host(more)
    f(double)
    np.testing.assert_array_equal(more, kept)


def test_borrowed_arrays_are_copied_and_may_be_written_later():
    f = fg.jit(lambda x: x + 1, donate_argnums=0)
    x = np.zeros(40_000, np.float32)
    out = f(x)
    x[:] = 5
    assert float(out.sum()) == 40_000
    frozen = np.zeros(5, np.float32)
    frozen.flags.writeable = False
    f(frozen)
    assert not frozen.any()


def test_donation_with_closures_and_static_arguments():
    c = fnp.arange(40_000.0)
    f = fg.jit(lambda k, x, y: (y * k + c, x), static_argnums=0, donate_argnums=2)
    x, y = fresh(40_000), fresh(40_000)
    want, place = host(y) * 3 + np.arange(40_000.0), address(y)
    out, other = f(3, x, y)
    np.testing.assert_allclose(out, want, rtol=1e-6)
    assert address(out) == place
    assert address(other) != address(x)  # a result never shares memory with an argument
    np.testing.assert_array_equal(c, np.arange(40_000.0))


def test_donation_of_trees_and_names():
    f = fg.jit(lambda a, t: {"v": t["v"] + a, "w": t["w"]["k"] * a}, donate_argnames="t")
    t = {"w": {"k": fresh(40_000)}, "v": fresh(7)}
    places = address(t["v"]), address(t["w"]["k"])
    out = f(2.0, t=t)
    assert (address(out["v"]), address(out["w"])) == places


def test_threads_that_donate_and_read_the_same_array():
    f = fg.jit(lambda x: x * 2 + 1, donate_argnums=0)
    g = fg.jit(lambda x: x + 0.5)
    f(fresh(200_000)), g(fresh(200_000))
    wrong, raised = [], []
    for _ in range(30):
        x = fresh(200_000)
        want = host(x)
        start = threading.Barrier(3)

        def run(function, value, x=x, start=start):
            start.wait()
            try:
                out = host(function(x))
            except BufferDonatedError:
                raised.append(1)
            else:
                if not np.array_equal(out, value):
                    wrong.append(function)

        double = want * np.float32(2) + np.float32(1)
        calls = [(f, double), (f, double), (g, want + np.float32(0.5))]
        threads = [threading.Thread(target=run, args=c) for c in calls]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert not wrong
    assert len(raised) >= 30  # one array can be given away once


class NoMemoryError(Exception):
    """Stands for what a user's function raises."""


def test_an_error_before_the_first_step_gives_the_arrays_back(monkeypatch):
    from fgrad.backends.cpu import blocks

    f = fg.jit(lambda x, y: (x + y, fnp.sin(y)), donate_argnums=0)
    x, y = fresh(300_000), fresh(300_000)
    want = host(x)
    f.lower(x, y).schedule()

    def full(_size):
        raise OutOfMemoryError("no memory")

    blocks.clear()
    with monkeypatch.context() as patched:
        patched.setattr(blocks, "_pages", full)
        with pytest.raises(OutOfMemoryError):
            f(x, y)
    np.testing.assert_array_equal(x, want)
    np.testing.assert_array_equal(f(x, y)[0], want + host(y))


def test_an_error_in_a_step_leaves_the_arrays_donated():
    def fail(_):
        raise NoMemoryError

    def f(x):
        y = x * 2
        return y, fg.pure_callback(fail, fg.ShapeDtypeStruct((), np.float32), fnp.sum(y))

    x = fresh(40_000)
    with pytest.raises(NoMemoryError):
        fg.jit(f, donate_argnums=0)(x)
    with pytest.raises(BufferDonatedError):
        x + 1


def test_donation_under_other_transforms_changes_nothing():
    f = fg.jit(lambda x: fnp.sum(fnp.sin(x) * x) * x, donate_argnums=0)
    x = array(5)
    want = host(fg.jacrev(lambda x: fnp.sum(fnp.sin(x) * x) * x)(x))
    np.testing.assert_allclose(fg.jacrev(f)(x), want, rtol=1e-5, atol=1e-6)


def test_numpy_programs_leave_donated_memory_alone():
    x = fresh(40_000)
    view = np.asarray(x)
    before = host(view)
    with config.cpu_compiler("numpy"):
        out = fg.jit(lambda x: x + 1, donate_argnums=0)(x)
    np.testing.assert_array_equal(view, before)
    np.testing.assert_array_equal(out, before + 1)
    with pytest.raises(BufferDonatedError):
        x + 1


def test_a_result_of_several_kernels_waits_for_all_that_read_the_donated_argument():
    def f(x, y):
        first = fnp.tanh(y)
        return fnp.concatenate([first, x[1000:] * fnp.sum(x)])

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=1500), rng.normal(size=1000)
    expected = np.concatenate([np.tanh(y), x[1000:] * x.sum()])
    step = fg.jit(f, donate_argnums=0)
    # The first kernel would write to the argument before the last has read it.
    assert not step.lower(x, y).memory_analysis().taken
    for _ in range(2):
        np.testing.assert_allclose(step(fnp.asarray(x) + 0, y), expected, rtol=1e-9)


def test_a_donated_array_still_prints():
    x = fnp.ones((2, 3))
    fg.jit(lambda x: x + 1, donate_argnums=0)(x)
    assert repr(x) == str(x) == f"{x}" == "<Array f32[2,3], donated to <lambda>>"
    assert repr([x]) == f"[{x!r}]"
    with pytest.raises(BufferDonatedError):
        f"{x:.2f}"


@pytest.mark.parametrize("shape", [(3, 300), (64, 5000), (5, 9000)])
def test_a_value_kept_for_a_later_pass_does_not_overwrite_what_it_reads(shape):
    """The exponentials could wait in the place of the result, were that not the donated input."""

    def f(x):
        e = fnp.exp(x)
        return e / fnp.sum(e, -1, keepdims=True) + x

    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    g = fg.jit(f, donate_argnums=0)
    assert g.lower(x).memory_analysis().taken == {1: 0}
    np.testing.assert_allclose(np.asarray(g(fnp.array(x))), np.asarray(f(fnp.array(x))), rtol=1e-5)
