"""What scans keep for their backward scans: the fewest bytes a step, and the same numbers."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.compile.passes import dce, inline, mincut, scancut, trim
from fgrad.compile.passes.mincut import LEAST_BYTES, is_cheap
from fgrad.compile.passes.tidy import tidied
from fgrad.compile.replay import replays
from fgrad.core.check import check_jaxpr
from fgrad.core.ir import Var
from fgrad.core.transforms.stage import eval_jaxpr, hoist

SIDE, STEPS = 32, 8  # 64 KiB of float64 for each value of all steps: not too small to be decided
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SIDE, SIDE)) / SIDE
WS = RNG.normal(size=(STEPS, SIDE, SIDE)) / SIDE


def traced(f, *args):
    return tidied(hoist(fg.make_jaxpr(f)(*args).jaxpr))


def scans(jaxpr):
    return [e for e in jaxpr.eqns if e.primitive.name == "scan"]


def pair(jaxpr):
    """The forward scan and its backward scan."""
    first, second = scans(jaxpr)
    assert first.pullback is None
    assert second.pullback is not None
    return first, second


def stacked_bytes(jaxpr):
    """Bytes that the first scan stacks for the second one."""
    first, second = pair(jaxpr)
    n = first.params["num_carry"]
    return sum(v.aval.nbytes for v in first.outputs[n:] if v in second.inputs)


def names(eqn):
    return sorted(e.primitive.name for e in tidied(eqn.params["jaxpr"]).eqns)


def same(before, after, *args):
    check_jaxpr(after)
    for x, y in zip(eval_jaxpr(before, (), *args), eval_jaxpr(after, (), *args), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def layers(x, ws):
    def layer(x, w):
        h = nn.layer_norm(x, w[0], w[0])
        return x + nn.gelu(h @ w) @ w.T, None

    return fnp.mean(lax.scan(layer, x, ws)[0] ** 2)


def gated(x, ws):
    def step(state, w):
        h, c = state
        i, f, g = h @ w, fnp.sin(h @ w.T), fnp.tanh(h @ w * 2)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * g
        h = nn.sigmoid(g + 1) * fnp.tanh(c)
        return (h, c), h * 2

    (h, _), ys = lax.scan(step, (x, x), ws)
    return fnp.sum(h) + fnp.sum(ys**2)


def from_rows(x, ws):
    """What is computed from stacked inputs, constants and the carry alone is not kept at all."""

    def step(c, w):
        return c @ w + fnp.sin(w * x) @ fnp.cos(c), None

    return fnp.sum(lax.scan(step, x, ws)[0])


def backwards(x, ws):
    return fnp.sum(lax.scan(lambda c, w: (nn.gelu(c @ w) @ w, c), x, ws, reverse=True)[1] ** 2)


def nested(x, ws):
    def outer(c, w):
        inner = lax.scan(lambda c, _: (nn.gelu(c @ w) @ w, None), c, None, length=3)[0]
        return nn.gelu(inner @ w) @ w, None

    return fnp.sum(lax.scan(outer, x, ws)[0])


FUNCTIONS = [layers, gated, from_rows, backwards, nested]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_less_is_kept_and_the_bits_are_the_same(f):
    before = traced(fg.value_and_grad(f, (0, 1)), X, WS)
    after = scancut(before)
    assert stacked_bytes(after) < stacked_bytes(before)
    same(before, after, X, WS)
    same(before, mincut(after), X, WS)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_compiled_gradients_are_those_of_eager_code_in_less_memory(f):
    run = fg.jit(fg.value_and_grad(f, (0, 1)))
    for got, want in zip(
        fg.tree.leaves(run(X, WS)), fg.tree.leaves(fg.value_and_grad(f, (0, 1))(X, WS)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    arena = run.lower(X, WS).memory_analysis().arena_bytes
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["fgrad.compile.passes.scancut"]
        patch.setattr(module, "cheapest_to_keep", lambda values: set(range(len(values))))
        replays.clear()  # what was decided otherwise is not taken over
        whole = fg.jit(lambda *a: fg.value_and_grad(f, (0, 1))(*a)).lower(X, WS)
        assert arena < whole.memory_analysis().arena_bytes
    replays.clear()


def test_contractions_are_never_computed_again():
    before = traced(fg.grad(layers, (0, 1)), X, WS)
    after = scancut(before)
    assert [names(e).count("dot_general") for e in scans(before)] == [
        names(e).count("dot_general") for e in scans(after)
    ]


def test_what_has_no_cheap_source_stays():
    before = traced(fg.grad(lambda x, ws: fnp.sum(lax.scan(
        lambda c, w: (fnp.tanh(c @ w), None), x, ws)[0]), (0, 1)), X, WS)  # fmt: skip
    assert scancut(before) is before


def test_small_values_are_kept():
    x, ws = X[:4, :4], WS[:, :4, :4]
    before = traced(fg.grad(layers, (0, 1)), x, ws)
    assert scancut(before) is before
    assert stacked_bytes(before) < LEAST_BYTES * 16


def test_what_the_user_sees_costs_nothing():
    """A stack that is a result is there anyway, and is read rather than computed again."""

    def f(x, ws):
        def step(c, w):
            h = fnp.sin(c @ w)
            return fnp.exp(h) @ w, h

        c, hs = lax.scan(step, x, ws)
        return fnp.sum(c), hs

    before = traced(fg.value_and_grad(f, (0, 1), has_aux=True), X, WS)
    after = scancut(before)
    assert "sin" not in names(pair(after)[1])
    same(before, after, X, WS)


def test_residuals_of_a_rule_are_kept_as_given():
    @fg.custom_vjp
    def twice(x, w):
        return fnp.sin(x) @ w

    def forward(x, w):
        h = fnp.sin(x)
        return h @ w, (h, x, w)

    twice.defvjp(forward, lambda res, ct: (ct @ res[2].T * fnp.cos(res[1]), res[0].T @ ct))

    def f(rule):
        return lambda x, ws: fnp.sum(lax.scan(lambda c, w: (rule(c @ w, w), None), x, ws)[0])

    given_ = scancut(traced(fg.grad(f(twice), (0, 1)), X, WS))
    assert "sin" not in names(pair(given_)[1])
    plain = scancut(traced(fg.grad(f(lambda x, w: fnp.sin(x) @ w), (0, 1)), X, WS))
    assert "sin" in names(pair(plain)[1])


def test_residuals_that_the_user_holds_are_kept_as_given():
    def f(x, ws):
        return fg.vjp(lambda x: layers(x, ws), x)

    jaxpr = traced(lambda x, ws: f(x, ws)[1], X, WS)  # the pullback is a result, and its residuals
    assert scancut(jaxpr) is jaxpr


def test_checkpoint_regions_stay_as_they_are():
    def f(x, ws):
        region = fg.checkpoint(lambda x, w: nn.gelu(x @ w) @ w)
        return fnp.mean(lax.scan(lambda c, w: (region(fnp.sin(c @ w), w), None), x, ws)[0])

    before = traced(fg.grad(f, (0, 1)), X, WS)
    after = scancut(before)
    back = tidied(pair(before)[1].params["jaxpr"])
    kept = {a for e in back.eqns if e.phase for a in e.inputs if a in back.invars}
    assert kept
    assert "sin" not in names(pair(after)[1])  # the region reads it
    same(before, after, X, WS)


def test_a_dropped_stack_is_no_longer_computed():
    before = traced(fg.grad(layers, (0, 1)), X, WS)
    after = scancut(before)
    first = [pair(j)[0] for j in (before, after)]
    assert len(first[1].outputs) < len(first[0].outputs)
    assert len(dce(after).eqns) == len(after.eqns)


def test_second_derivatives_and_batches_are_cut_too():
    def f(x, ws):
        return fnp.sum(fg.grad(layers)(x, ws) ** 2)

    args = X, WS[:2]
    before = traced(fg.grad(f, (0, 1)), *args)
    same(before, scancut(before), *args)
    batch = np.stack([X, X * 2])
    before = traced(fg.vmap(fg.grad(layers), (0, None)), batch, WS)
    after = scancut(before)
    assert stacked_bytes(after) < stacked_bytes(before)
    same(before, after, batch, WS)


def test_stacks_that_nobody_reads_are_trimmed():
    """`linearize` runs the body again along the tangents, and needs no residuals."""

    def f(x, ws):
        y, push = fg.linearize(lambda x: layers(x, ws), x)
        return push(x * y)

    before = traced(f, X, WS)
    after = trim(before)
    assert [len(e.outputs) for e in scans(before)] == [6, 2]
    assert [len(e.outputs) for e in scans(after)] == [1, 2]
    same(before, after, X, WS)
    assert trim(after) is after


# ------------------------------------------------------------------------------- brute force

OPERATIONS = ["sin", "mul", "add", "exp", "dot"]


@st.composite
def bodies(draw):
    """A few operations of a step, each of earlier values: the carry, a row, a constant, results."""
    steps = []
    for i in range(draw(st.integers(1, 6))):
        a, b = (draw(st.integers(0, 2 + i)) for _ in range(2))
        steps.append((draw(st.sampled_from(OPERATIONS)), a, b))
    return steps


def function(steps):
    apply = {
        "sin": lambda a, b: fnp.sin(a), "exp": lambda a, b: fnp.exp(fnp.sin(a)),
        "mul": lambda a, b: a * b, "add": lambda a, b: a + b, "dot": lambda a, b: a @ b,
    }  # fmt: skip

    def f(x, ws):
        def step(c, w):
            values = [c, w, x]
            for name, a, b in steps:
                values.append(apply[name](values[a], values[b]))
            return values[-1] + c * 0.5, None

        return fnp.sum(lax.scan(step, x, ws)[0] ** 2)

    return f


def fewest(first, body, needed):
    """The fewest values of the body from which all that are needed follow, by trying all."""
    n = first.params["num_consts"]
    free = {*body.invars} - {*body.invars[n : n + first.params["num_carry"]]}
    values = [
        v for v in (*body.invars, *(v for e in body.eqns for v in e.outputs)) if v not in free
    ]

    def suffices(kept):
        have = {*kept, *free}
        for e in body.eqns:
            if is_cheap(e) and all(a in have for a in e.inputs if isinstance(a, Var)):
                have.update(e.outputs)
        return have.issuperset(needed)

    choices = itertools.chain.from_iterable(
        itertools.combinations(values, k) for k in range(len(values) + 1)
    )
    return next(len(c) for c in choices if suffices(c))


@given(bodies())
@settings(deadline=None)
def test_what_is_kept_is_the_best_of_all_choices(steps):
    before = traced(fg.grad(function(steps), (0, 1)), X, WS)
    if len(scans(before)) < 2:
        return
    first, second = pair(before)
    n = first.params["num_carry"]
    body = tidied(first.params["jaxpr"])
    inner = body.outvars[n:]
    needed = {
        v for v, outer in zip(inner, first.outputs[n:], strict=True) if outer in second.inputs
    }
    after = scancut(before)
    assert stacked_bytes(after) == fewest(first, body, needed) * WS.nbytes
    same(before, after, X, WS)
    assert inline(after) is after
