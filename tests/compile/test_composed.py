"""Primitives that compilers compose of others: kernels alone, and the values of the eager rules."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import dtypes, lax

RNG = np.random.default_rng(0)


def kernels_alone(f, *xs):
    """The results of a compiled function without library steps."""
    compiled = fg.jit(f)
    steps = compiled.lower(*xs).schedule()
    assert {s.kind for s in steps} <= {"kernel"}, [s.name for s in steps]
    return np.asarray(compiled(*xs))


# --------------------------------------------------------------------------- argmax, argmin

ORDERED = ("float32", "float64", "float16", "bfloat16", "int8", "uint64", "int64", "bool")


def searched(name, shape):
    """Arrays with ties, extreme values, infinities, NaNs."""
    dtype = dtypes.dtype(name)
    if dtype.kind == "b":
        return [RNG.random(shape) < 1e-3, np.zeros(shape, bool)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
        x.flat[x.size // 3], x.flat[-1] = info.max, info.min
        return [x]
    x = RNG.integers(-9, 9, shape).astype(dtype)
    missing = x.copy()
    missing.flat[x.size // 3], missing.flat[-1] = np.nan, np.nan
    return [x, missing, np.full(shape, -np.inf, dtype), np.full(shape, np.inf, dtype)]


@pytest.mark.parametrize("search", [lax.argmax, lax.argmin], ids=["argmax", "argmin"])
@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 37), 1), ((5, 37), 0), ((2, 70001), 1), ((32768, 2), 0), ((1,), 0)]
)
def test_searches_name_the_first_extremum(search, name, shape, axis):
    for x in searched(name, shape):
        for index_dtype in (np.int32, np.uint8):
            found = kernels_alone(lambda x, t=index_dtype: search(x, axis, t), x)
            np.testing.assert_array_equal(found, np.asarray(search(x, axis, index_dtype)))


def test_a_search_along_rows_is_one_kernel():
    x = RNG.standard_normal((64, 1000)).astype("f")
    assert len(fg.jit(lambda x: lax.argmax(x, 1)).lower(x).kernels()) == 1
