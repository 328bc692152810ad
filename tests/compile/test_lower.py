"""Plans compute what eager rules compute: every primitive, random programs, known programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compile.lower import lower
from fgrad.compile.lower.partition import Partition
from fgrad.compile.lower.program import Program
from fgrad.compile.lower.scalars import expression
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Launch, check_plan
from fgrad.compile.run_plan import run_plan
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, all_primitives
from fgrad.core.transforms.stage import hoist, stage
from fgrad.testing.functions import evaluate, pullback, random_like
from fgrad.testing.laws import prim_call
from fgrad.testing.oracle import assert_close, epsilon, gamma, ulp, widened
from fgrad.testing.strategies import dtype_named, example_of, problems
from fgrad.testing.values import observed_call
from tests.laws.test_random_programs import as_function, broadcastable, random_programs


def everything(_op, _dtype):
    return True


def plan_of(f, *xs, supports=everything):
    """The plan of `f` and the arrays that it closes over."""
    avals = [as_value(x).aval for x in xs]
    jaxpr, consts = stage(f, avals)
    plan = lower(optimize(hoist(jaxpr)), supports)
    check_plan(plan)
    return plan, [np.asarray(c) for c in consts]


def run(f, *xs, supports=everything):
    plan, consts = plan_of(f, *xs, supports=supports)
    return run_plan(plan, [*consts, *xs]), plan


SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]
CALLS = [
    pytest.param(prim, case, name, id=f"{prim.name}-{case.name or case.shapes}-{name}")
    for prim in SPECIFIED
    for case in prim.spec.cases
    for name in prim.spec.dtypes
]


def check_call(problem):
    f = observed_call(problem)
    expected = evaluate(f, problem.args)
    got, _ = run(f, *problem.args)
    assert len(got) == len(expected)
    for i, (y, e) in enumerate(zip(got, expected, strict=True)):
        assert y.dtype == e.dtype
        assert y.shape == e.shape
        assert_close(y, e, bound_of(problem, i, e), f"plan of {problem}, result {i}")


def bound_of(problem, i, e):
    """The distance allowed: both are within the spec's bound of the exact value."""
    spec = problem.prim.spec
    if not epsilon(e.dtype):
        return 0.0
    if spec.ulps is not None:
        return 2 * spec.ulps * ulp(widened(e), e.dtype)
    with np.errstate(all="ignore"):
        terms = spec.terms(*[widened(x) for x in problem.args], **problem.params)
    terms = np.asarray(terms[i] if problem.prim.multiple_results else terms)
    count = 2 * max(x.size for x in problem.args) + 2
    computed = min(e.dtype, np.dtype("f"), key=epsilon)  # narrower floats are computed in float32
    return ulp(widened(e), e.dtype) + gamma(count, computed) * terms


@pytest.mark.parametrize(("prim", "case", "name"), CALLS)
def test_every_primitive_means_the_same(prim, case, name):
    for seed, size in enumerate((2, 3, 5)):
        check_call(example_of(prim, case, dtype_named(name), seed, size))


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
@given(data=st.data())
def test_every_primitive_means_the_same_on_any_shape(prim, data):
    case = data.draw(st.sampled_from(prim.spec.cases))
    name = data.draw(st.sampled_from(prim.spec.dtypes))
    check_call(data.draw(problems(prim, case, dtype_named(name))))


# Composed of what no kernel computes: values of these dtypes stay with the library.
POINTWISE = [
    p for p in all_primitives() if isinstance(p.lower, Lowering) and p.lower.kind == "pointwise"
]


@pytest.mark.parametrize("prim", [p for p in POINTWISE if not isinstance(p.spec, Absent)], ids=str)
def test_pointwise_expressions_are_well_formed(prim):
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            problem = example_of(prim, case, dtype_named(name))
            jaxpr, _ = stage(
                prim_call(prim, problem.params), [as_value(x).aval for x in problem.args]
            )
            for eqn in jaxpr.eqns:
                if eqn.primitive is prim:
                    scalar = expression(eqn)
                    assert isinstance(scalar, Absent) or len(scalar[1]) == len(eqn.inputs)


@given(random_programs())
def test_random_programs_mean_the_same(program):
    steps, xs = program
    f = as_function(steps)
    got, _ = run(f, *xs)
    for y, e in zip(got, evaluate(f, xs), strict=True):
        assert_close(y, e, 1e-11 * (1 + np.abs(e).max(initial=0)), "plan = eager")


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_programs_mean_the_same(program, seed):
    steps, xs = program
    f = as_function(steps)
    rng = np.random.default_rng(seed)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    pull = pullback(f, len(xs))
    got, _ = run(pull, *xs, *cts)
    for y, e in zip(got, evaluate(pull, (*xs, *cts)), strict=True):
        assert_close(y, e, 1e-10 * (1 + np.abs(e).max(initial=0)), "plan = eager")


# --------------------------------------------------------------------------- known programs


def f32(*shape):
    rng = np.random.default_rng(sum(shape))
    return rng.uniform(-2, 2, shape).astype(np.float32)


def vjp_of(f):
    return lambda ct, *xs: fg.vjp(f, *xs)[1](ct)


def layer_norm(x, scale, bias):
    return lax.normalize(x, eps=1e-5) * scale + bias


def group_norm_silu(x, scale):
    b, h, w, c = x.shape
    rows = lax.normalize(x.reshape(b, h * w, c // 4, 4), (1, 3), eps=1e-5)
    return lax.silu(rows.reshape(x.shape) * scale)


def channel_norm_silu(x, scale, bias):
    b, c, h, w = x.shape
    rows = lax.normalize(x.reshape(b, 2, c // 2, h, w), (2, 3, 4), eps=1e-5)
    return lax.silu(rows.reshape(x.shape) * scale[:, None, None] + bias[:, None, None])


def adam(p, g, m, v, count):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    mean, square = m / (1 - 0.9**count), v / (1 - 0.99**count)
    return p - 1e-3 * mean / (fnp.sqrt(square) + 1e-8), m, v


def cross_entropy(x, labels):
    chosen = fnp.arange(x.shape[1]) == labels[:, None]
    return fnp.mean(lax.logsumexp(x)[:, 0] - fnp.sum(fnp.where(chosen, x, 0), 1))


def rotate(x, cos, sin):
    a, b = x[..., :4], x[..., 4:]
    return fnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


LABELS = np.arange(12, dtype=np.int32) % 5
# name → function, arguments, kernels, library steps
KNOWN = {
    "softmax": (lax.softmax, (f32(12, 20),), 1, 0),
    "softmax_vjp": (vjp_of(lax.softmax), (f32(12, 20), f32(12, 20)), 1, 0),
    "layer_norm": (layer_norm, (f32(12, 20), f32(20), f32(20)), 1, 0),
    "layer_norm_vjp": (vjp_of(layer_norm), (f32(12, 20), f32(12, 20), f32(20), f32(20)), 1, 0),
    "group_norm_silu": (group_norm_silu, (f32(2, 3, 3, 8), f32(8)), 1, 0),
    # The gradients of scale and bias take a kernel each, which adds up a few numbers.
    "channel_norm_silu_vjp": (
        lambda ct, *xs: (lambda y, pull: (y, *pull(ct)))(*fg.vjp(channel_norm_silu, *xs)),
        (f32(3, 8, 4, 5), f32(3, 8, 4, 5), f32(8), f32(8)), 3, 0,
    ),
    "chain_gradient": (
        fg.value_and_grad(lambda x: fnp.sum(fnp.sin(fnp.exp(fnp.tanh(x) * 2)))),
        (f32(12, 20),), 1, 0,
    ),
    "gelu_mlp_gradient": (
        fg.grad(lambda w, b, v, x: fnp.sum(lax.gelu(x @ w + b) @ v), argnums=(0, 1, 2)),
        (f32(6, 8), f32(8), f32(8, 3), f32(4, 6)), 2, 4,
    ),
    "adam": (adam, (*(f32(12, 20),) * 3, abs(f32(12, 20)), np.float32(3)), 2, 0),
    "cross_entropy_gradient": (
        fg.value_and_grad(lambda x: cross_entropy(x, LABELS)), (f32(12, 20),), 2, 0,
    ),
    "rotary": (rotate, (f32(2, 6, 8), f32(6, 4), f32(6, 4)), 1, 0),
    "mean_and_variance": (lambda x: (fnp.mean(x, -1), fnp.var(x, -1)), (f32(12, 20),), 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_programs_take_few_kernels(name, golden):
    known, xs, kernels, library = KNOWN[name]

    def f(*xs):
        return fg.tree.leaves(known(*xs))

    got, plan = run(f, *xs)
    for y, e in zip(got, evaluate(f, xs), strict=True):
        assert_close(y, e, 2e-6 * (1 + np.abs(e).max()), "plan = eager")
    launches = [s for s in plan.steps if isinstance(s, Launch)]
    golden.check(f"plans/{name}.txt", str(plan))
    assert (len(launches), len(plan.steps) - len(launches)) == (kernels, library)


# ----------------------------------------------------------------- views, rows and joins mixed


def apply(rng, x, pick, dtype):
    """One more value from `x` and, where an operation takes two, from another that fits."""

    def axis():
        return int(rng.integers(x.ndim))

    def like(test):
        return pick(lambda y: test(x, y))

    def rows_less_their_sum():
        a = axis()
        total = lax.reduce_sum(x, (a,))
        kept = tuple(i for i in range(x.ndim) if i != a)
        return lax.sub(x, lax.broadcast_in_dim(total, x.shape, kept))

    def other_shape():
        lengths = [d for d in range(1, x.size + 1) if x.size % d == 0]
        d = int(rng.choice(lengths))
        return lax.reshape(x, (d, x.size // d))

    def padded():
        scalar = pick(lambda y: y.size == 1)
        fill = np.asarray(0.5, dtype) if scalar is None else lax.reshape(scalar, ())
        low = [int(rng.integers(-1, 2)) if n > 1 else 1 for n in x.shape]
        return lax.pad(x, fill, [(lo, 1, int(rng.integers(3) == 0)) for lo in low])

    def sliced():
        start, step = (1, *(0,) * (x.ndim - 1)), int(rng.integers(1, 3))
        return lax.slice(x, start, x.shape, (step, *(1,) * (x.ndim - 1)))

    def box():
        starts = [np.int32(rng.integers(-1, 4)), *(np.int32(0) for _ in x.shape[1:])]
        return lax.dynamic_slice(x, starts, (x.shape[0] - 1, *x.shape[1:]))

    any_rank = {
        "tanh": lambda: lax.tanh(x),
        "add": lambda: lax.add(x, like(lambda x, y: broadcastable(x.shape, y.shape))),
        "mul": lambda: lax.tanh(lax.mul(x, like(lambda x, y: broadcastable(x.shape, y.shape)))),
        "transpose": lambda: lax.transpose(x, tuple(map(int, rng.permutation(x.ndim)))),
        "reshape": other_shape,
        "flatten": lambda: lax.reshape(x, (x.size,)),
        "repeat": lambda: lax.broadcast_in_dim(x, (3, *x.shape), tuple(range(1, x.ndim + 1))),
    }
    with_axes = {
        "sum": lambda: lax.tanh(lax.reduce_sum(x, (axis(),))),
        "max": lambda: lax.reduce_max(x, (axis(),)),
        "rows": rows_less_their_sum,
        "softmax": lambda: lax.softmax(x, (axis(),)),
        "normalize": lambda: lax.normalize(x, (axis(),), eps=0.1),
        "rev": lambda: lax.rev(x, (axis(),)),
        "pad": padded,
        "join": lambda: lax.concatenate(
            [x, like(lambda x, y: y.ndim == x.ndim and y.shape[1:] == x.shape[1:])], 0
        ),
        "cumsum": lambda: lax.cumsum(x, 0),
    }
    longer = {"slice": sliced, "box": box}
    possible = any_rank | (with_axes if x.ndim else {})
    possible |= longer if x.ndim and x.shape[0] > 1 else {}
    return possible[str(rng.choice(list(possible)))]()


def mixed(seed, dtype, depth=20):
    """A program of a seed: its last value and three others."""

    def f(*xs):
        rng = np.random.default_rng(seed)
        known = list(xs)

        def pick(test):
            found = [x for x in known[-10:] + known[:4] if test(x)]
            return found[rng.integers(len(found))] if found else None

        for _ in range(depth):
            y = apply(rng, pick(lambda _: True), pick, dtype)
            if 0 < y.size <= 96:
                known.append(y)
        return [known[-1], *(known[i] for i in rng.integers(len(known), size=3))]

    rng = np.random.default_rng(seed)
    shapes = ((4, 6), (6,), (2, 3, 4), (4,))
    return f, [rng.uniform(-1.5, 1.5, s).astype(dtype) for s in shapes]


def same_as_eager(f, xs, tolerance):
    got, _ = run(f, *xs)
    for y, e in zip(got, evaluate(f, xs), strict=True):
        size = 1 + np.abs(widened(e)).max(initial=0)
        assert_close(y, e, tolerance * size, "plan = eager")


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_mixed_programs_mean_the_same(seed):
    f, xs = mixed(seed, np.dtype(np.float64))
    same_as_eager(f, xs, 1e-11)


@given(SEEDS)
def test_gradients_of_mixed_programs_mean_the_same(seed):
    f, xs = mixed(seed, np.dtype(np.float64), depth=10)

    def gradient(*xs):
        outs, pull = fg.vjp(f, *xs)
        return [*outs, *pull([lax.tanh(y) for y in outs])]

    same_as_eager(gradient, xs, 1e-9)


@given(SEEDS)
def test_mixed_programs_in_16_bits_round_each_value(seed):
    # Sums are in another order, so a value may be rounded the other way, here and then later on.
    f, xs = mixed(seed, dtype_named("bfloat16"), depth=12)
    same_as_eager(f, xs, 0.05)


def test_without_scalar_operations_everything_is_a_library_step():
    f, xs, *_ = KNOWN["layer_norm"]
    got, plan = run(lambda *xs: [f(*xs)], *xs, supports=lambda _op, _dtype: False)
    assert "tanh" not in str(plan)
    names = {s.eqn.primitive.name for s in plan.steps if not isinstance(s, Launch)}
    assert {"add", "mul"} <= names
    assert_close(got[0], np.asarray(f(*xs)), 1e-5, "plan = eager")


def test_plans_are_the_same_each_time():
    f, xs = mixed(7, np.dtype(np.float64), depth=40)
    assert len({str(plan_of(f, *xs)[0]) for _ in range(5)}) == 1


def test_effects_keep_their_order():
    def f(x):
        fg.debug.print("first {}", x)
        y = lax.exp(x)
        fg.debug.print("second {}", y)
        return [lax.add(y, 1)]

    plan, _ = plan_of(f, np.float32(1))
    sources = [s.index for s in plan.steps if not isinstance(s, Launch)]
    assert len(sources) == 2
    assert sources == sorted(sources)


def test_recomputation_stays_behind_what_asks_for_it():
    def f(x):
        return [fg.grad(lambda x: fnp.sum(fg.checkpoint(lambda x: lax.sin(lax.exp(x)))(x) ** 2))(x)]

    same_as_eager(f, [np.linspace(0, 1, 12)], 1e-13)


@pytest.mark.parametrize("shape", [(100_000,), (300, 500), (99_991,), (7, 99_991), (2, 3, 50_000)])
def test_sums_over_much_are_made_of_rows(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    same_as_eager(
        lambda x: [fnp.sum(lax.tanh(x)), lax.mul(x, 2), fnp.sqrt(fnp.sum(x * x))], [x], 1e-5
    )


@pytest.mark.parametrize("axes", [(0, 2, 3), (0, 3), (2, 3), (3,), (0, 1, 3), (1, 3), (0, 2), (2,)])
@pytest.mark.parametrize("dtype", [np.float32, fnp.bfloat16])
def test_parts_of_rows_are_reduced_beside_the_rows(axes, dtype):
    def f(x, y):
        z = lax.normalize(x, (1, 2, 3), eps=1e-5) * y
        return [lax.tanh(z), fnp.sum(z, axes), fnp.max(z, axes)]

    x, y = (np.asarray(f32(3, 4, 5, 6 + k)[..., :6], dtype) for k in range(2))
    same_as_eager(f, [x, y], 2e-6 if dtype == np.float32 else 2**-7)


def test_a_cluster_that_was_merged_meanwhile_is_not_merged_again():
    jaxpr, _ = stage(lambda x: [lax.tanh(x), lax.exp(x)], [as_value(f32(3, 4)).aval])
    partition = Partition(Program(jaxpr, everything))
    first, second = partition.nodes
    assert partition.find(second) is first
    assert partition._try(second, first, related=False) is first
    assert [a.size for a in first.atoms()] == [3, 4]


def test_rows_are_read_without_a_guard_under_a_pad():
    def f(x):
        total = lax.broadcast_in_dim(lax.reduce_sum(x, (0,)), (2, 3), (1,))
        padded = lax.pad(total, 0.0, [(1, 1, 0), (0, 0, 0)])
        return [lax.add(lax.tanh(x), padded)]

    same_as_eager(f, [f32(4, 3)], 1e-6)
    assert len(run(f, f32(4, 3))[1].steps) == 1


def test_vectors_go_along_the_longest_axis_of_a_row_where_the_last_is_short():
    def pairs(x):  # of neighbours, as rotary embeddings turn them
        y = x.reshape(6, 32, 2)
        return fnp.sum(y[..., ::-1] * y, (-1, -2)), fnp.sum(y[..., ::-1] * y, (0,))

    x = np.random.default_rng(0).uniform(1, 2, (6, 64)).astype(np.float32)
    got, plan = run(pairs, x)
    assert [s.kernel.inner for s in plan.steps] == [(2, 32)]
    y = x.reshape(6, 32, 2).astype(np.float64)
    np.testing.assert_allclose(got[0], np.sum(y[..., ::-1] * y, (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got[1], np.sum(y[..., ::-1] * y, 0), rtol=1e-5)

    def few(x):  # nothing to gain: no axis fills a vector
        y = x.reshape(48, 4, 2)
        return (fnp.sum(y[..., ::-1] * y, (-1, -2)),)

    _, plan = run(few, x)
    assert [s.kernel.inner for s in plan.steps] == [(4, 2)]


def test_sums_over_leading_axes_do_not_make_rows_that_lie_across_memory():
    def both(x):
        y = fnp.tanh(x)
        return fnp.sum(y, 1), fnp.sum(y, (0, 1))  # as of a gate of each image, and of a bias

    x = np.random.default_rng(0).uniform(1, 2, (4, 64, 96)).astype(np.float32)
    got, plan = run(both, x)
    assert [s.kernel.inner for s in plan.steps] == [(96,), (96,)]
    np.testing.assert_allclose(got[0], np.tanh(x).sum(1), rtol=1e-5)
    np.testing.assert_allclose(got[1], np.tanh(x).sum((0, 1)), rtol=1e-5)

    def along(x):
        return fnp.sum(x, 1), fnp.sum(x, (1, 2))

    got, plan = run(along, x)
    assert [s.kernel.inner for s in plan.steps] == [(96,)]
    np.testing.assert_allclose(got[0], x.sum(1), rtol=1e-5)
    np.testing.assert_allclose(got[1], x.sum((1, 2)), rtol=1e-5)
