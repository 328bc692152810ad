"""What forward passes keep for backward passes: the fewest bytes, and the same numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn
from fgrad.compile.flow import Kept, cheapest_to_keep
from fgrad.compile.passes import cse, dce, inline, mincut
from fgrad.core.check import check_jaxpr
from fgrad.core.ir import Var
from fgrad.core.transforms.stage import eval_jaxpr, hoist

MOST = 12


@st.composite
def graphs(draw):
    """Values in an order in which they can be computed, each from some before it or from none."""
    values = []
    for i in range(draw(st.integers(1, MOST))):
        before = st.lists(st.integers(0, i - 1), max_size=3, unique=True) if i else st.just([])
        sources = draw(st.none() | before.map(tuple))
        values.append(Kept(draw(st.integers(0, 9)), sources, draw(st.booleans())))
    return values


def suffices(values, kept):
    """Whether all that is needed is kept or can be computed."""
    have = set(kept)
    for i, v in enumerate(values):
        if v.sources is not None and have.issuperset(v.sources):
            have.add(i)
    return all(i in have for i, v in enumerate(values) if v.needed)


def cost(values, kept):
    return sum(values[i].nbytes for i in kept)


def brute_force(values):
    """The fewest bytes of all choices."""
    n = range(len(values))
    choices = itertools.chain.from_iterable(itertools.combinations(n, k) for k in range(len(n) + 1))
    return min(cost(values, c) for c in choices if suffices(values, c))


@given(graphs())
@example([Kept(1, None, False)] + [Kept(2, (i,), True) for i in range(MOST - 1)])
@example([Kept(3, None, False), Kept(2, (0,), False), Kept(4, (1,), True), Kept(4, (1,), True)])
def test_a_minimum_cut_is_the_best_of_all_choices(values):
    kept = cheapest_to_keep(values)
    assert suffices(values, kept)
    assert cost(values, kept) == brute_force(values)


def test_of_equal_choices_the_one_that_computes_least_is_taken():
    chain = [Kept(4, None, False), Kept(4, (0,), False), Kept(4, (1,), True)]
    assert cheapest_to_keep(chain) == {2}


# ------------------------------------------------------------------------------- programs

SIDE = 128  # such a square of float64 is not too small to be looked at
X, W = np.random.default_rng(0).normal(size=(2, SIDE, SIDE)) / SIDE


def traced(f, *args):
    jaxpr = hoist(fg.make_jaxpr(f)(*args).jaxpr)
    for run in (inline, cse, dce):
        jaxpr = run(jaxpr)
    return jaxpr


def split(jaxpr):
    """The equations before the backward pass and those from there on."""
    first = next(i for i, e in enumerate(jaxpr.eqns) if e.pullback is not None)
    return jaxpr.eqns[:first], jaxpr.eqns[first:]


def kept_bytes(jaxpr):
    """Bytes of the forward values that the backward pass reads."""
    forward, backward = split(jaxpr)
    made = {v for e in forward for v in e.outputs}
    return sum(v.aval.nbytes for v in {a for e in backward for a in e.inputs if a in made})


def again(jaxpr):
    """Names of the equations that are computed again."""
    forward = {(e.primitive, e.source) for e in split(jaxpr)[0]}
    return sorted(
        e.primitive.name for e in jaxpr.eqns if e.phase and (e.primitive, e.source) in forward
    )


def perceptron(x, w):
    for _ in range(3):
        x = x + nn.gelu(x @ w) @ w.T
    return fnp.mean(x * x)


def normalized(x, w):
    g = w[0]
    return fnp.mean(nn.silu(nn.layer_norm(x, g, g) @ w) @ w)


def attending(x, w):
    q, k, v = (x @ w + i for i in range(3))
    return fnp.mean(nn.softmax(q @ k.T * 0.5) @ v)


@pytest.mark.parametrize("f", [perceptron, normalized, attending])
def test_less_is_kept_and_the_bits_are_the_same(f):
    before = traced(fg.value_and_grad(f, (0, 1)), X, W)
    after = mincut(before)
    check_jaxpr(after)
    assert kept_bytes(after) < kept_bytes(before)
    for x, y in zip(eval_jaxpr(before, (), X, W), eval_jaxpr(after, (), X, W), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_perceptron_takes_less_memory():
    large = np.vstack([X] * 8), np.hstack([W] * 4)

    def arena(off):
        with pytest.MonkeyPatch.context() as patch:
            if off:
                patch.setattr("fgrad.compile.passes.PASSES", (inline, cse, dce))
            lowered = fg.jit(fg.value_and_grad(perceptron, (0, 1))).lower(*large)
            return lowered.memory_analysis().arena_bytes

    assert arena(off=False) <= 0.7 * arena(off=True)


def products(z):
    return fnp.sin(z) * fnp.exp(z)


def test_the_linear_half_of_linearize_is_a_backward_pass():
    def f(x, w):
        y, push = fg.linearize(lambda x: products(x @ w) @ w, x)
        return push(y @ w)

    before = traced(f, X, W)
    after = mincut(before)
    check_jaxpr(after)
    assert kept_bytes(after) < kept_bytes(before)
    assert again(after) == ["exp", "sin"]
    for x, y in zip(eval_jaxpr(before, (), X, W), eval_jaxpr(after, (), X, W), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_linear_function_that_is_called_twice_has_two_runs():
    def f(x, w):
        y, push = fg.linearize(lambda x: products(x @ w) @ w, x)
        return push(push(y @ w) @ w)

    before = traced(f, X, W)
    after = mincut(before)
    assert len({e.pullback[0] for e in before.eqns if e.pullback}) == 2
    for x, y in zip(eval_jaxpr(before, (), X, W), eval_jaxpr(after, (), X, W), strict=True):
        np.testing.assert_array_equal(x, y)


def test_contractions_are_never_computed_again():
    program = mincut(traced(fg.grad(perceptron, (0, 1)), X, W))
    assert again(program) == ["gelu"] * 3


def test_a_copy_stands_where_a_cotangent_first_needs_it():
    program = mincut(traced(fg.grad(perceptron, (0, 1)), X, W))
    for i, eqn in enumerate(program.eqns):
        if eqn.primitive.name == "gelu" and eqn.phase:
            assert set(eqn.outputs) & set(program.eqns[i + 1].inputs)


def test_copies_are_not_merged_with_the_first_run():
    program = mincut(traced(fg.grad(perceptron, (0, 1)), X, W))
    assert len(cse(program).eqns) == len(program.eqns)


def test_one_kernel_needs_no_copy():
    jaxpr = traced(fg.value_and_grad(lambda x: fnp.sum(fnp.sin(fnp.exp(x)))), X)
    assert mincut(jaxpr) is jaxpr


def test_small_values_are_kept():
    small = X[:8, :8], W[:8, :8]
    assert again(mincut(traced(fg.grad(perceptron, (0, 1)), *small))) == []


def test_results_cost_nothing():
    def f(x, w):
        h = fnp.sin(x @ w)
        return fnp.sum((h @ w) ** 2), h

    program = mincut(traced(fg.value_and_grad(f, (0, 1), has_aux=True), X, W))
    assert "sin" not in again(program)


def test_residuals_of_a_rule_are_kept_as_given():
    @fg.custom_vjp
    def twice(x, w):
        return fnp.sin(x) @ w

    def forward(x, w):
        h = fnp.sin(x)
        return h @ w, (h, x, w)

    twice.defvjp(forward, lambda res, ct: (ct @ res[2].T * fnp.cos(res[1]), res[0].T @ ct))
    given = traced(fg.grad(lambda x, w: fnp.sum(twice(x @ w, w) ** 2), (0, 1)), X, W)
    assert again(mincut(given)) == []
    plain = traced(fg.grad(lambda x, w: fnp.sum((fnp.sin(x @ w) @ w) ** 2), (0, 1)), X, W)
    assert again(mincut(plain)) == ["sin"]


def test_checkpoint_regions_stay_as_they_are():
    def f(x, w):
        return fnp.mean(fg.checkpoint(lambda x: nn.gelu(x @ w) @ w)(fnp.sin(x @ w)))

    before = traced(fg.grad(f, (0, 1)), X, W)
    kept = {a for e in split(before)[1] if e.phase for a in e.inputs if isinstance(a, Var)}
    read = {a for e in mincut(before).eqns for a in e.inputs if isinstance(a, Var)}
    assert kept <= read
    assert "sin" not in again(mincut(before))


def test_each_backward_pass_of_a_second_derivative_has_a_cut_of_its_own():
    def f(x, w):
        return fnp.sum(fg.grad(perceptron, 0)(x, w) ** 2)

    before = traced(fg.grad(f, (0, 1)), X, W)
    assert len({e.pullback[0] for e in before.eqns if e.pullback}) == 2
    after = mincut(before)
    check_jaxpr(after)
    for x, y in zip(eval_jaxpr(before, (), X, W), eval_jaxpr(after, (), X, W), strict=True):
        np.testing.assert_array_equal(x, y)


def test_two_calls_of_one_program_have_two_backward_passes():
    slope = fg.jit(fg.grad(perceptron, 0))
    program = traced(lambda x, w: slope(x, w) + slope(x + 1, w), X, W)
    assert len({e.pullback[0] for e in program.eqns if e.pullback}) == 2
