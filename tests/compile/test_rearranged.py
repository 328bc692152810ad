"""Concatenations, paddings and casts of bits are kernels, whatever the sizes of their parts."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cpu.ops import supports
from fgrad.compile.memory import plan_memory
from fgrad.compile.plan import RESULT, Launch, launches_of
from fgrad.core import dtypes
from tests.compile.test_lower import f32, plan_of

WORDS = np.random.default_rng(0).integers(0, 2**32, (6, 4), dtype=np.uint32)
X = f32(4, 5)
RNG = np.random.default_rng(1)


def kernels_of(f, *xs):
    plan, _ = plan_of(f, *xs)
    return [launch.kernel for step in plan.steps for launch in launches_of(step)]


def joined(x, y):
    """A part that is made here, an input, a view, one of length 0, and what reads the whole."""
    whole = lax.concatenate([fnp.sin(x), y, x[:, :0], x[:, ::-1]], 1)
    return [whole, fnp.sum(whole, 1), lax.concatenate([whole @ whole.T, x[:, 1:2]], 1) * 2]


PROGRAMS = {
    "joined": (joined, (X, f32(4, 3))),
    "joined in the middle": (lambda x, y: [lax.concatenate([x, y, x], 1) + 1], (X, f32(4, 1))),
    "spread": (lambda x: [lax.pad(x, np.float32(7), ((1, 2, 3), (-1, -2, 0)))], (X,)),
    "spread and cut": (lambda x: [lax.pad(x * 2, x[0, 0], ((-2, 1, 2), (-1, 0, 1)))], (X,)),
    "around nothing": (lambda x: [lax.pad(x[:0], np.float32(7), ((1, 2, 0), (0, 1, 2)))], (X,)),
    "between nothing": (lambda x: [lax.pad(x[:0], x[0, 0], ((1, 2, 3), (0, 1, 2)))], (X,)),
    "bits as bytes": (lambda x: [lax.bitcast_convert_type(x, np.uint8)], (WORDS,)),
    "bytes as floats": (lambda x: [lax.bitcast_convert_type(x, np.float64)], (WORDS[:, :2],)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_kernels_and_equal_eager_code(name):
    f, xs = PROGRAMS[name]
    plan, _ = plan_of(f, *xs, supports=supports)
    others = [s.eqn.primitive.name for s in plan.steps if not isinstance(s, Launch)]
    assert set(others) <= {"dot_general"}
    expected = f(*map(fnp.asarray, xs))
    for got, e in zip(fg.jit(f)(*xs), expected, strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(e), rtol=1e-5, atol=1e-5)


def test_a_whole_that_several_kernels_write_counts_once():
    def f(x, y):
        return [lax.concatenate([x, y], 0)]

    plan, _ = plan_of(f, f32(7), f32(300), supports=supports)
    assert len(plan.steps) == 2
    results = sum(b.nbytes for b in plan.buffers if b.role == RESULT)
    memory = plan_memory(plan)
    assert memory.peak_bytes == memory.input_bytes + results


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(dtypes.bfloat16)], ids=str)
def test_all_bits_of_16_bit_floats_are_cast(dtype):
    """Kernels hold them as float32, in which a signalling NaN becomes quiet."""
    bits = np.arange(2**16, dtype=np.uint16)
    floats = bits.view(dtype)
    number = ~np.isnan(floats.astype(np.float32))
    to = np.asarray(fg.jit(lambda x: lax.bitcast_convert_type(x, np.uint16))(floats))
    back = np.asarray(fg.jit(lambda x: lax.bitcast_convert_type(x, dtype))(bits))
    np.testing.assert_array_equal(to[number], bits[number])
    np.testing.assert_array_equal(back.view(np.uint16)[number], bits[number])
    assert np.isnan(to[~number].view(dtype).astype(np.float32)).all()
    assert np.isnan(back[~number].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("shape", "outer", "inner"),
    [((1000, 128), (1000,), (128,)), ((1009, 33), (1009,), (33,)), ((4000, 20), (160,), (25, 20)),
     ((20000, 3), (125,), (3, 160)), ((100, 50, 40), (5000,), (40,)), ((31, 33), (), (31, 33)),
     ((10007, 3), (), (3, 10007)), ((2, 30000), (2,), (30000,))],
)  # fmt: skip
def test_a_long_row_of_several_axes_is_cut_into_rows_that_threads_share(shape, outer, inner):
    x, b = RNG.normal(size=shape).astype("f"), RNG.normal(size=shape[-1]).astype("f")
    (kernel,) = kernels_of(lambda x, b: [x * b], x, b)
    assert (kernel.outer, kernel.inner) == (outer, inner)
    np.testing.assert_array_equal(fg.jit(lambda x, b: x * b)(x, b), x * b)


def test_positions_along_other_axes_survive_a_cut():
    def f(x, b):
        return [x * b + lax.broadcasted_iota(np.float32, x.shape, 1)]

    x, b = RNG.normal(size=(3000, 7)).astype("f"), RNG.normal(size=7).astype("f")
    (kernel,) = kernels_of(f, x, b)
    assert len(kernel.outer) == 1
    expected = x * b + np.arange(7, dtype="f")
    np.testing.assert_array_equal(fg.jit(f)(x, b)[0], expected)


def test_what_is_filled_in_keeps_its_sign():
    def f(x):
        one, other = (fnp.pad(x, 2, constant_values=v) for v in (0.0, -0.0))
        return 1 / one - 1 / other

    np.testing.assert_array_equal(fg.jit(f)(X), np.pad(0 * X, 2, constant_values=np.inf))
