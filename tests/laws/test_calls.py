"""The laws hold for functions that hold programs: calls, rules of one's own, branches, loops,
collectives.

Such primitives take no shape pattern, so they have no spec; these functions stand in for it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgrad as fg
from fgrad import lax
from fgrad.testing import batching, check_laws, programs, values


def uniform(*shape):
    """Draws an operand of that shape, away from 0."""
    return lambda rng: np.asarray(rng.uniform(0.2, 1.2, shape))


# Where a function jumps or has a kink, differences show no derivative: `CLEAR` says which operands
# are far enough from it.
FAR = 0.1


def clear_of_ties(x):
    return bool((np.diff(np.sort(x)) > FAR).all())


def clear_of_a_branch(x, y):
    return abs(x.sum() - 1.5) > FAR


def clear_of_all_branches(x, rows):
    for row in rows:
        if not clear_of_a_branch(x, row):
            return False
        x = x * row if x.sum() > 1.5 else np.sin(x) + row
    return True


def clear_of_a_switch(x, y):
    return abs(x.sum() - np.round(x.sum())) > FAR


CLEAR = {
    "cond": clear_of_a_branch,
    "cond in scan": clear_of_all_branches,
    "switch": clear_of_a_switch,
    "pmax": clear_of_ties,
    "pmin": clear_of_ties,
}


def drawn(name, rng):
    """Operands of the function of that name, far from its jumps."""
    _, operands = FUNCTIONS[name]
    while True:
        xs = [draw(rng) for draw in operands]
        if name not in CLEAR or CLEAR[name](*xs):
            return xs


@fg.custom_jvp
def softened(x):
    return lax.tanh(x) * 2.0


softened.defjvp(
    lambda ps, ts: (softened(ps[0]), ts[0] * 2.0 * (1.0 - lax.tanh(ps[0]) * lax.tanh(ps[0])))
)


@fg.custom_vjp
def product(x, y):
    return lax.sin(x) * y


product.defvjp(
    lambda x, y: (product(x, y), (x, y)),
    lambda res, ct: (ct * lax.cos(res[0]) * res[1], ct * lax.sin(res[0])),
)


def branch(x, y):
    positive = lax.gt(lax.reduce_sum(x, (0,)), 1.5)
    return lax.cond(positive, lambda a, b: a * b, lambda a, b: lax.sin(a) + b, x, y)


def switched(x, y):
    index = lax.convert_element_type(lax.floor(lax.reduce_sum(x, (0,))), np.int32)
    cases = [lambda a, b: a * b, lambda a, b: lax.exp(a) - b, lambda a, b: a / b]
    return lax.switch(index, cases, x, y)


def scanned(carry, xs):
    def step(c, x):
        c = lax.sin(c) * x + c
        return c, c * x

    return lax.scan(step, carry, xs)


def scanned_backwards(carry, xs):
    return lax.scan(lambda c, x: (c * x, lax.tanh(c)), carry, xs, reverse=True)


def summed(x, w):
    """A loop that closes over a value which it does not carry."""
    return lax.fori_loop(0, 3, lambda i, c: lax.sin(c * w) + c, x)


def while_below(x):
    """A loop whose number of turns depends on the values, not near a change of it."""

    def unfinished(state):
        i, _ = state
        return lax.lt(i, 4)

    return lax.while_loop(unfinished, lambda s: (s[0] + 1, lax.sin(s[1]) * 1.5), (0, x))[1]


def nested_loops(x):
    inner = lambda i, c: c * lax.cos(c)  # noqa: E731 - two loops in a line each
    return lax.fori_loop(0, 2, lambda i, c: lax.fori_loop(0, 2, inner, c) + x, x)


def over_axis(body):
    """A function with a collective, over the leading axis of its arguments."""
    return lambda *xs: fg.vmap(body, axis_name="i")(*xs)


RING = [(0, 1), (1, 2), (2, 0)]
FUNCTIONS = {
    "jit": (lambda x, y: fg.jit(lambda a, b: lax.sin(a) * b)(x, y), [uniform(2), uniform(2)]),
    "nested jit": (lambda x: fg.jit(lambda a: fg.jit(lax.exp)(a) * a)(x), [uniform(2)]),
    "custom_jvp": (softened, [uniform(3)]),
    "custom_vjp": (product, [uniform(2), uniform(2)]),
    "custom_vjp in jit": (lambda x: fg.jit(lambda a: product(a, a * a))(x), [uniform(2)]),
    "checkpoint": (
        lambda x, y: fg.checkpoint(lambda a, b: lax.sin(lax.sin(a) * b))(x, y),
        [uniform(2), uniform(2)],
    ),
    "checkpoint in scan": (
        lambda x, w: lax.scan(
            fg.checkpoint(lambda c, w: (lax.sin(c * w), c)), x, w
        ),
        [uniform(2), uniform(3, 2)],
    ),
    "cond": (branch, [uniform(2), uniform(2)]),
    "switch": (switched, [uniform(3), uniform(3)]),
    "scan": (scanned, [uniform(2), uniform(3, 2)]),
    "scan backwards": (scanned_backwards, [uniform(2), uniform(3, 2)]),
    "scan of nothing": (scanned, [uniform(2), uniform(0, 2)]),
    "map": (lambda x: lax.map(lambda a: lax.sin(a) * a, x), [uniform(3, 2)]),
    "fori_loop": (summed, [uniform(2), uniform(2)]),
    "while_loop": (while_below, [uniform(2)]),
    "nested loops": (nested_loops, [uniform(2)]),
    "cond in scan": (
        lambda x, w: lax.scan(lambda c, w: (branch(c, w), c), x, w), [uniform(2), uniform(3, 2)],
    ),
    "associative_scan": (lambda x: lax.associative_scan(lax.mul, x), [uniform(5)]),
    "psum": (over_axis(lambda x: lax.sin(x) * lax.psum(x, "i")), [uniform(3, 2)]),
    "pmean": (over_axis(lambda x: lax.sin(lax.pmean(x, "i")) * x), [uniform(3)]),
    "pmax": (over_axis(lambda x: lax.pmax(x, "i") * x), [uniform(3)]),
    "pmin": (over_axis(lambda x: lax.pmin(x, "i") * x), [uniform(3)]),
    "all_gather": (over_axis(lambda x: lax.all_gather(lax.sin(x), "i") * x), [uniform(3)]),
    "ppermute": (over_axis(lambda x: lax.ppermute(lax.sin(x), "i", RING) * x), [uniform(3)]),
    "psum_scatter": (over_axis(lambda x: lax.psum_scatter(lax.sin(x), "i")), [uniform(3, 3)]),
    "all_to_all": (over_axis(lambda x: lax.sin(lax.all_to_all(x, "i", 0, 0))), [uniform(3, 3)]),
    "axis_index": (
        over_axis(lambda x: x * x * lax.convert_element_type(lax.axis_index("i"), np.float64)),
        [uniform(3)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_laws_hold(name):
    f, _ = FUNCTIONS[name]

    @settings(max_examples=max(3, settings().max_examples // 8))
    @given(st.integers(0, 2**32 - 1))
    def holds(seed):
        rng = np.random.default_rng(seed)
        check_laws(f, drawn(name, rng), seed=seed)

    holds()


@pytest.mark.parametrize("method", ["sequential", "broadcast_all", "expand_dims"])
def test_a_pure_callback_obeys_the_laws_of_values(method):
    def f(x):
        return [fg.pure_callback(np.cos, x.aval, x, vmap_method=method)]

    x = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
    values.law_pure(f, [x])
    programs.law_passes(f, [x])
    programs.law_jit(f, [x])
    for axis in (0, 1):
        batching.law_vmap(f, [x], [axis], x.shape[axis])


@pytest.mark.parametrize("callback", [fg.io_callback, fg.debug.callback], ids=["io", "debug"])
def test_a_callback_with_effects_runs_once_an_element(callback):
    seen = []

    def f(x):
        target = (seen.append, None, x) if callback is fg.io_callback else (seen.append, x)
        callback(*target)
        return x * 2.0

    x = np.arange(3.0)
    f(x[0])
    fg.jit(f)(x[1])
    fg.vmap(f)(x)
    assert [float(v) for v in seen] == [0.0, 1.0, 0.0, 1.0, 2.0]
