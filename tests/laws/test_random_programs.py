"""Random programs of shared values: every way to run or differentiate them agrees.

A program is a list of steps; each picks its operands among all values before it, so values are
shared and cotangents must add up. NumPy runs the same list as the reference of the value.
"""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgrad import jit, lax, linearize, vjp
from fgrad.compile.replay import replays
from fgrad.core.errors import FgradError
from fgrad.core.evaluate import as_value
from fgrad.testing import batching, laws, programs
from fgrad.testing.functions import evaluate, random_like
from fgrad.testing.oracle import assert_near

DEPTH = 8


class Step:
    """One operation: its name, the indices of its operands, static parameters."""

    def __init__(self, name, operands, params=()):
        self.name, self.operands, self.params = name, operands, params

    def __repr__(self):
        return f"{self.name}{self.operands}{self.params or ''}"


def mask_of(shape):
    return (np.arange(int(np.prod(shape))) % 3 == 0).reshape(shape)


OURS = {
    "add": lax.add,
    "sub": lax.sub,
    "mul": lambda x, y: lax.mul(x, lax.tanh(y)),
    "div": lambda x, y: lax.div(x, lax.add(lax.mul(y, y), 1.0)),
    "tanh": lax.tanh,
    "sin": lax.sin,
    "exp": lambda x: lax.exp(lax.tanh(x)),
    "square": lambda x: lax.square(lax.sin(x)),
    "sum": lambda x, axis: lax.reduce_sum(x, (axis,)),
    "transpose": lambda x: lax.transpose(x, tuple(reversed(range(x.ndim)))),
    "flatten": lambda x: lax.reshape(x, (int(np.prod(x.shape)),)),
    "expand": lambda x, n: lax.broadcast_in_dim(x, (n, *x.shape), tuple(range(1, x.ndim + 1))),
    "reverse": lambda x, axis: lax.rev(x, (axis,)),
    "where": lambda x, y: lax.select_n(as_value(mask_of(x.shape)), x, y),
    "join": lambda x, y: lax.concatenate([x, y], 0),
    "matmul": lambda x, y: lax.dot_general(x, y, (((x.ndim - 1,), (0,)), ((), ()))),
    "cumsum": lambda x, axis: lax.cumsum(x, axis),
}
NUMPY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": lambda x, y: x * np.tanh(y),
    "div": lambda x, y: x / (y * y + 1.0),
    "tanh": np.tanh,
    "sin": np.sin,
    "exp": lambda x: np.exp(np.tanh(x)),
    "square": lambda x: np.sin(x) ** 2,
    "sum": lambda x, axis: x.sum(axis),
    "transpose": np.transpose,
    "flatten": np.ravel,
    "expand": lambda x, n: np.broadcast_to(x, (n, *x.shape)),
    "reverse": lambda x, axis: np.flip(x, axis),
    "where": lambda x, y: np.where(mask_of(x.shape), y, x),
    "join": lambda x, y: np.concatenate([x, y], 0),
    "matmul": lambda x, y: np.tensordot(x, y, 1),
    "cumsum": lambda x, axis: x.cumsum(axis),
}
UNARY = ("tanh", "sin", "exp", "square", "transpose", "flatten")
BINARY = ("add", "sub", "mul", "div", "where")


def broadcastable(x, y):
    return all(m == n or 1 in (m, n) for m, n in zip(x[::-1], y[::-1], strict=False))


def choices(shapes):
    """Every well-typed step on values of these shapes; results keep at most 64 elements."""
    for i, s in enumerate(shapes):
        for name in UNARY:
            yield Step(name, (i,))
        for axis in range(len(s)):
            for name in ("sum", "reverse", "cumsum"):
                yield Step(name, (i,), (axis,))
        if len(s) < 3:
            yield Step("expand", (i,), (2,))
        for j, t in enumerate(shapes):
            for name in BINARY:
                if broadcastable(s, t) and (name != "where" or s == t):
                    yield Step(name, (i, j))
            if s and len(s) == len(t) and s[1:] == t[1:]:
                yield Step("join", (i, j))
            if s and t and s[-1] == t[0] and len(s) + len(t) <= 5:
                yield Step("matmul", (i, j))


@st.composite
def random_programs(draw):
    """Steps, and the arrays that they start from."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, n = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shapes = draw(st.lists(st.sampled_from([(), (n,), (m, n), (n, m)]), min_size=1, max_size=3))
    inputs = [np.asarray(rng.uniform(-1.5, 1.5, s)) for s in shapes]
    known, steps = list(inputs), []
    for _ in range(draw(st.integers(1, DEPTH))):
        possible = {}
        for step in choices([x.shape for x in known]):
            possible.setdefault(step.name, []).append(step)
        # By name first: otherwise the operations with most operands crowd out the others.
        step = draw(st.sampled_from(possible[draw(st.sampled_from(sorted(possible)))]))
        out = np.asarray(NUMPY[step.name](*[known[i] for i in step.operands], *step.params))
        if out.size <= 64:
            known.append(out)
            steps.append(step)
    return steps, inputs


def as_function(steps, ops=OURS):
    """The last value of a program, and one that was shared on the way."""

    def run(*xs):
        known = list(xs)
        for step in steps:
            known.append(ops[step.name](*[known[i] for i in step.operands], *step.params))
        return [known[-1], known[len(known) // 2]]

    return run


@given(random_programs())
def test_values_are_those_of_numpy(program):
    steps, xs = program
    expected = as_function(steps, NUMPY)(*xs)
    assert_near(evaluate(as_function(steps), xs), [np.asarray(y) for y in expected], "value")


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_derivatives_agree(program, seed):
    steps, xs = program
    laws.first_order(as_function(steps), xs, np.random.default_rng(seed))


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_second_derivatives_agree(program, seed):
    steps, xs = program
    rng = np.random.default_rng(seed)
    laws.law_order_2(as_function(steps), xs, rng)
    laws.law_hessian(as_function(steps), xs, rng)


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_programs_staged_run_as_they_do_eagerly(program, seed):
    steps, xs = program
    f, rng = as_function(steps), np.random.default_rng(seed)
    programs.law_passes(f, xs)
    programs.law_jit(f, xs)
    programs.law_jit_derivatives(f, xs, rng)
    programs.law_checkpoint(f, xs, rng)
    programs.law_identity_rules(f, xs, rng)


@pytest.fixture
def small_values_count(monkeypatch):
    """Between forward and backward, values are decided however small they are."""
    replays.clear()  # what others have decided is not decided again
    for name in ("mincut", "scancut"):
        monkeypatch.setattr(sys.modules[f"fgrad.compile.passes.{name}"], "LEAST_BYTES", 0)
    yield
    replays.clear()


def with_gradients(f):
    """The results of a function, and its pullback and derivative at 1."""

    def both(*xs):
        outs, pull = vjp(f, *xs)
        ones = [lax.full(y.shape, 1.0, y.dtype) for y in outs]
        _, push = linearize(f, *xs)
        directions = [lax.full(x.shape, 1.0, x.dtype) for x in xs]
        return [*outs, *pull(ones), *push(*directions)]

    return both


def repeated(f):
    """A function as the step of a scan, whose carry is what its first operand adds up to."""

    def scanned(*xs):
        def step(carry, row):
            outs = f(lax.add(xs[0], carry), *xs[1:])
            total = lax.tanh(lax.reduce_sum(outs[0], tuple(range(outs[0].ndim))))
            return lax.add(lax.mul(carry, row), total), outs[1]

        rows = lax.convert_element_type(lax.iota(np.int32, 3), xs[0].dtype)
        return list(lax.scan(step, lax.full((), 0.5, xs[0].dtype), rows))

    return scanned


@pytest.mark.usefixtures("small_values_count")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(random_programs())
def test_passes_leave_gradients_as_they_are(program):
    steps, xs = program
    programs.law_passes(with_gradients(as_function(steps)), xs)


@pytest.mark.usefixtures("small_values_count")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(random_programs())
def test_passes_leave_gradients_of_loops_as_they_are(program):
    steps, xs = program
    programs.law_passes(with_gradients(repeated(as_function(steps))), xs)


@given(random_programs(), st.integers(0, 2**32 - 1), st.sampled_from(["float64", "float32"]))
def test_kernels_compute_what_they_mean(program, seed, dtype):
    steps, xs = program
    f, rng = as_function(steps), np.random.default_rng(seed)
    xs = [x.astype(dtype) for x in xs]
    programs.law_kernels(f, xs)
    programs.law_donation(f, xs, rng)


@given(
    random_programs(),
    st.lists(st.sampled_from(programs.MIXED), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_jit_anywhere_among_transforms_changes_nothing(program, names, seed):
    steps, xs = program
    programs.law_mixed(as_function(steps), xs, names, np.random.default_rng(seed))


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_batches_are_loops(program, seed):
    steps, xs = program
    f, rng = as_function(steps), np.random.default_rng(seed)
    dims = batching.random_dims(xs, rng)
    rows = [[random_like(rng, x) for x in xs] for _ in range(2)]
    for size in (3, 1, 0):
        batching.law_vmap(f, batching.stack(xs, rows, dims, size), dims, size)
    batching.law_vmap_nested(f, batching.stack(xs, rows, dims, 2), dims, 2, rng)
    batching.law_vmap_derivatives(f, xs, rng)
    batching.law_jacobian(f, xs)


@pytest.mark.peers
@given(random_programs(), st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_jax(program, seed):
    import jax

    steps, xs = program
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        f = as_function(steps, {**NUMPY, **jax_operations(jax.numpy)})
        outs, pull = jax.vjp(lambda *a: f(*a), *xs)
        cts = [random_like(rng, np.asarray(y)) for y in outs]
        expected = [np.asarray(g) for g in pull(cts)]
    from fgrad.testing.functions import pullback

    got = evaluate(pullback(as_function(steps), len(xs)), (*xs, *cts))
    assert_near(got, expected, "gradients = JAX's")


def jax_operations(jnp):
    return {
        "add": jnp.add,
        "sub": jnp.subtract,
        "mul": lambda x, y: x * jnp.tanh(y),
        "div": lambda x, y: x / (y * y + 1.0),
        "tanh": jnp.tanh,
        "sin": jnp.sin,
        "exp": lambda x: jnp.exp(jnp.tanh(x)),
        "square": lambda x: jnp.sin(x) ** 2,
        "transpose": jnp.transpose,
        "flatten": jnp.ravel,
        "expand": lambda x, n: jnp.broadcast_to(x, (n, *x.shape)),
        "reverse": jnp.flip,
        "sum": jnp.sum,
        "cumsum": jnp.cumsum,
        "where": lambda x, y: jnp.where(mask_of(x.shape), y, x),
        "join": lambda x, y: jnp.concatenate([x, y], 0),
        "matmul": lambda x, y: jnp.tensordot(x, y, 1),
    }


LENGTHS = st.tuples(*[st.sampled_from([1, 2, 3, 4, 6, 7, 10, 16, 31])] * 2)


@given(random_programs(), st.lists(LENGTHS, min_size=3, max_size=4))
def test_replayed_programs_give_the_bits_of_new_ones(program, lengths):
    steps, xs = program
    f = with_gradients(as_function(steps))
    axes = sorted({n for x in xs for n in x.shape})
    kept = jit(f)
    for pair in [(6, 10), *lengths]:
        names = dict(zip(axes, (*pair, 5), strict=False))
        rng = np.random.default_rng(sum(pair))
        args = [rng.uniform(-1.5, 1.5, [names[n] for n in x.shape]) for x in xs]
        try:
            f(*args)
        except FgradError:  # the shapes fit no more
            continue
        got = [np.asarray(y) for y in kept(*args)]
        known = dict(replays._kept)
        replays.clear()
        want = [np.asarray(y) for y in jit(lambda *xs: f(*xs))(*args)]
        replays._kept.update(known)
        for y, z in zip(got, want, strict=True):
            assert (y.dtype, y.shape, y.tobytes()) == (z.dtype, z.shape, z.tobytes())
