"""Primitives that compilers compose of others: kernels alone, and the values of the eager rules."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import dtypes, lax
from fgrad.core.evaluate import as_value
from fgrad.core.tracing import bind
from fgrad.lax.window import (
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_sum_p,
    select_and_gather_add_p,
    select_and_scatter_add_p,
)

RNG = np.random.default_rng(0)


def kernels_alone(f, *xs):
    """The results of a compiled function without library steps."""
    compiled = fg.jit(f)
    steps = compiled.lower(*xs).schedule()
    assert {s.kind for s in steps} <= {"kernel"}, [s.name for s in steps]
    return np.asarray(compiled(*xs))


def same(found, expected):
    """Equal, NaNs too, and of one dtype."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    wide = np.float32 if found.dtype.name == "bfloat16" else found.dtype
    np.testing.assert_array_equal(found.astype(wide), expected.astype(wide))


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
    ("shape", "axis"),
    [((5, 37), 1), ((5, 37), 0), ((2, 70001), 1), ((1000, 3), 0), ((40000, 20), 0), ((9, 4), 0)],
)
def test_searches_name_the_first_extremum(search, name, shape, axis):
    for x in searched(name, shape):
        for index_dtype in (np.int32, np.uint8):
            found = kernels_alone(lambda x, t=index_dtype: search(x, axis, t), x)
            same(found, search(x, axis, index_dtype))


def test_a_search_along_rows_is_one_kernel():
    x = RNG.standard_normal((64, 1000)).astype("f")
    assert len(fg.jit(lambda x: lax.argmax(x, 1)).lower(x).kernels()) == 1


# ------------------------------------------------------------------- reductions over windows

# Operand, window, strides, padding, base dilation, window dilation.
WINDOWS = {
    "small": ((3, 9, 11), (1, 3, 3), (1, 1, 2), ((0, 0), (1, 1), (0, 2)), (1, 1, 1), (1, 1, 1)),
    "side by side": ((5, 96), (1, 24), (1, 24), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    "apart": ((4, 100), (1, 20), (1, 27), ((0, 0), (3, 5)), (1, 1), (1, 1)),
    "parts": ((4, 200), (1, 40), (1, 8), ((0, 0), (7, 0)), (1, 1), (1, 1)),
    "long": ((1000,), (300,), (1,), ((150, 149),), (1,), (1,)),
    "long, in steps": ((3000,), (259,), (3,), ((0, 0),), (1,), (1,)),
    "a power": ((700,), (256,), (1,), ((0, 0),), (1,), (1,)),
    "two long axes": ((40, 50), (17, 33), (1, 1), ((8, 8), (0, 0)), (1, 1), (1, 1)),
    "dilated": ((90, 3), (21, 2), (2, 1), ((9, 4), (1, 0)), (2, 3), (4, 2)),
    "cut": ((30, 8), (18, 3), (1, 1), ((-2, -3), (-1, 4)), (1, 1), (1, 1)),
    "far apart": ((70, 90), (2, 3), (20, 30), ((5, 0), (0, 7)), (1, 1), (1, 2)),
    "no position": ((3,), (5,), (1,), ((0, 0),), (1,), (1,)),
    "no element": ((0, 4), (3, 2), (1, 1), ((2, 2), (0, 0)), (1, 1), (1, 1)),
}


def windowed(prim, shape, window, strides, padding, base, dilation, **more):
    params = {
        "window_dimensions": window, "window_strides": strides, "padding": padding,
        "base_dilation": base, "window_dilation": dilation, **more,
    }  # fmt: skip
    return (lambda *xs: bind(prim, *map(as_value, xs), **params)), shape


def drawn(name, shape):
    dtype = dtypes.dtype(name)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
    x = RNG.integers(-9, 9, shape) + (1j * RNG.integers(-9, 9, shape) if dtype.kind == "c" else 0)
    return x.astype(dtype)


@pytest.mark.parametrize("given", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", ["float32", "int8", "complex64"])
def test_sums_over_windows_of_integers_are_exact(name, given):
    f, shape = windowed(reduce_window_sum_p, *given)
    x = drawn(name, shape)
    same(kernels_alone(f, x), f(x))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sums_over_windows_are_rounded_once(name):
    f, shape = windowed(reduce_window_sum_p, *WINDOWS["long"])
    x = RNG.standard_normal(shape).astype(dtypes.dtype(name))
    exact = np.asarray(f(x.astype(np.float64)))
    step = np.abs(exact) * float(dtypes.finfo(x.dtype).eps) + 1e-4
    assert np.all(np.abs(kernels_alone(f, x).astype(float) - exact) <= step)


@pytest.mark.parametrize("prim", [reduce_window_max_p, reduce_window_min_p], ids=str)
@pytest.mark.parametrize("given", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
def test_extrema_over_windows_have_the_eager_bits(prim, name, given):
    f, shape = windowed(prim, *given)
    x = drawn(name, shape)
    same(kernels_alone(f, x), f(x))
    if x.size and dtypes.is_float(x.dtype):
        x.flat[[0, x.size // 2, x.size - 1]] = np.nan, -np.inf, np.inf
        same(kernels_alone(f, x), f(x))


def test_a_long_window_takes_few_kernels():
    f, _ = windowed(reduce_window_sum_p, (9000,), (4096,), (1,), ((0, 0),), (1,), (1,))
    assert len(fg.jit(f).lower(np.zeros(9000, "f")).kernels()) == 3


@pytest.mark.parametrize("prim", [reduce_window_sum_p, reduce_window_max_p], ids=str)
def test_padding_is_stored_so_that_places_are_read_without_bounds(prim):
    f, shape = windowed(prim, *WINDOWS["small"])
    stored, reduced = fg.jit(f).lower(np.zeros(shape, "f")).kernels()
    assert "if 0 <=" in str(stored)
    assert "if 0 <=" not in str(reduced)


@pytest.mark.parametrize("name", ["uint8", "int16"])
def test_eager_sums_over_long_windows_keep_the_dtype(name):
    f, shape = windowed(reduce_window_sum_p, *WINDOWS["long"])
    assert f(drawn(name, shape)).dtype == np.dtype(name)


# ------------------------------------------------------- the selected element of each window


def selected(prim, name, given, select):
    """A function of elements and of the operand in which they are selected, and such arrays."""
    f, shape = windowed(prim, *given, select=select)
    out = windowed(reduce_window_max_p, *given)[0](np.zeros(shape)).shape
    x = drawn("int8" if name == "int8" else "float32", shape) // 32  # many ties
    if x.size and name != "int8":
        x.flat[[0, x.size // 2, x.size - 1]] = np.nan, -np.inf, np.inf
    return f, drawn(name, shape if prim is select_and_gather_add_p else out), x


@pytest.mark.parametrize("prim", [select_and_gather_add_p, select_and_scatter_add_p], ids=str)
@pytest.mark.parametrize(
    ("select", "name"), [("ge", "float32"), ("le", "bfloat16"), ("ge", "int8")]
)
@pytest.mark.parametrize("given", WINDOWS.values(), ids=WINDOWS)
def test_windows_select_what_the_eager_rule_selects(prim, select, given, name):
    f, t, x = selected(prim, name, given, select)
    same(kernels_alone(f, t, x), f(t, x))


@pytest.mark.parametrize("prim", [select_and_gather_add_p, select_and_scatter_add_p], ids=str)
def test_complex_elements_are_selected_too(prim):
    f, t, x = selected(prim, "complex64", WINDOWS["small"], "ge")
    same(kernels_alone(f, t, x), f(t, x))


@pytest.mark.parametrize("prim", [select_and_gather_add_p, select_and_scatter_add_p], ids=str)
def test_an_element_that_equals_the_padding_is_selected_before_it(prim):
    f, shape = windowed(prim, (2, 4), (1, 3), (1, 1), ((0, 0), (2, 2)), (1, 1), (1, 1), select="ge")
    x = np.full(shape, -np.inf)
    t = np.ones((2, 6) if prim is select_and_scatter_add_p else shape)
    found = kernels_alone(f, t, x)
    same(found, f(t, x))
    assert found.sum() == 12


@pytest.mark.parametrize("prim", [select_and_gather_add_p, select_and_scatter_add_p], ids=str)
def test_the_program_of_a_long_window_is_short(prim):
    f, shape = windowed(prim, (9000,), (4096,), (1,), ((0, 0),), (1,), (1,), select="ge")
    t = np.zeros(4905 if prim is select_and_scatter_add_p else shape, "f")
    assert len(fg.jit(f).lower(t, np.zeros(shape, "f")).kernels()) <= 12


def test_the_program_of_windows_far_apart_is_short():
    given = ((400, 400), (2, 2), (100, 100), ((0, 0), (0, 0)), (1, 1), (1, 1))
    f, shape = windowed(select_and_scatter_add_p, *given, select="ge")
    t, x = np.zeros((4, 4), np.int32), np.zeros(shape, np.int32)
    assert len(fg.jit(f).lower(t, x).kernels()) <= 12


# ------------------------------------------------------------------- products of complex numbers


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((), ()), ((7,), (0,)), ((1,), (0,)), ((0, 3), (0,)), ((3, 0), (0,)), ((300,), (0,)),
     ((4, 5000), (1,)), ((37, 4), (0,)), ((3, 19, 2), (0, 1)), ((3, 5, 18), (0, 2))],
)  # fmt: skip
def test_products_of_complex_numbers(shape, axes):
    x = np.exp(1j * RNG.uniform(0, 7, shape)) * RNG.uniform(0.9, 1.1, shape)
    found = kernels_alone(lambda x: lax.reduce_prod(x, axes), x)
    expected = np.prod(x, axes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_products_of_real_numbers_stay_one_reduction():
    kernels = fg.jit(lambda x: lax.reduce_prod(x, (0,))).lower(np.ones(300, "f")).kernels()
    assert len(kernels) <= 2
    assert "reduce mul" in str(kernels[0])
