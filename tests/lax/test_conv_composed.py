"""Convolutions by single features, or by one place, in terms of other primitives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
from fgrad import lax
from fgrad.compile.plan import Library
from tests.compile.test_lower import plan_of, run

LAYOUTS = {
    1: [("NCH", "OIH", "NCH"), ("NHC", "HIO", "NHC"), ("CNH", "OHI", "NHC")],
    2: [("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC"), ("NHWC", "OIHW", "HNCW")],
}


def laid_out(x, spec):
    rank = len(spec)
    plain = "NCHW"[:rank] if "N" in spec else "OIHW"[:rank]
    return np.ascontiguousarray(x.transpose([plain.index(c) for c in spec]))


@st.composite
def calls(draw):
    rank = draw(st.sampled_from([1, 2]))
    specs = draw(st.sampled_from(LAYOUTS[rank]))
    size = draw(st.lists(st.sampled_from([3, 7, 20]), min_size=rank, max_size=rank))
    window = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    pads = [draw(st.tuples(st.integers(-1, 2), st.integers(0, 2))) for _ in size]
    steps = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    dilation = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    features, many = draw(st.sampled_from([2, 5])), draw(st.integers(1, 3))
    data = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = data.normal(size=(draw(st.integers(1, 3)), features, *size))
    w = data.normal(size=(features * many, 1, *window))

    def f(x, w):
        return lax.conv_general_dilated(
            x, w, steps, pads, rhs_dilation=dilation, dimension_numbers=specs,
            feature_group_count=features,
        )  # fmt: skip

    dtype = draw(st.sampled_from(["float32", "float64", "bfloat16", "float16"]))
    return (
        f,
        laid_out(x, specs[0]).astype(fg.dtypes.dtype(dtype)),
        laid_out(w, specs[1]).astype(fg.dtypes.dtype(dtype)),
    )


def close(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        tolerance = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-5, "float64": 1e-13}
        a, b = (np.asarray(v).astype(np.float64) for v in (a, b))
        rtol = tolerance[found[0].dtype.name]
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(np.abs(b).max(initial=0), 1))


@given(calls())
def test_values_and_gradients_are_those_of_the_eager_rule(call):
    f, x, w = call

    def both(x, w):
        y, pull = fg.vjp(f, x, w)
        return [y, *pull(y)]

    close(fg.jit(both)(x, w), both(x, w))


def test_with_features_last_they_are_kernels():
    specs = LAYOUTS[2][1]
    x = laid_out(np.ones((2, 6, 9, 8), np.float32), specs[0])
    w = laid_out(np.ones((6, 1, 3, 3), np.float32), specs[1])

    def f(x, w):
        y, pull = fg.vjp(
            lambda x, w: lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=specs, feature_group_count=6
            ), x, w,
        )  # fmt: skip
        return [y, *pull(y)]

    assert steps_of(f, x, w) == []
    close(run(f, x, w)[0], f(x, w))


def test_long_windows_wide_groups_and_features_first_stay_library_steps():
    last = LAYOUTS[2][1]
    for x, w, specs in (
        ((1, 30, 30, 4), (5, 5, 1, 4), last), ((1, 30, 30, 4), (3, 3, 2, 4), last),
        ((1, 4, 30, 30), (4, 1, 3, 3), LAYOUTS[2][0]),
    ):  # fmt: skip
        groups = 4 // w[1 if specs != last else 2]

        def conv(x, w, g=groups, specs=specs):
            return [lax.conv_general_dilated(
                x, w, (1, 1), "VALID", dimension_numbers=specs, feature_group_count=g
            )]  # fmt: skip

        found = steps_of(conv, np.ones(x, np.float32), np.ones(w, np.float32))
        assert found == ["conv_general_dilated"]


def steps_of(f, *xs):
    plan, _ = plan_of(f, *xs)
    return [s.eqn.primitive.name for s in plan.steps if isinstance(s, Library)]


@pytest.mark.parametrize("size", [9, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("specs", LAYOUTS[2])
def test_convolutions_by_one_place_are_matrix_products(specs, dtype, size):
    data = np.random.default_rng(0)
    x = laid_out(data.normal(size=(2, 6, size, 8)), specs[0]).astype(fg.dtypes.dtype(dtype))
    w = laid_out(data.normal(size=(5, 6, 1, 1)), specs[1]).astype(fg.dtypes.dtype(dtype))

    def conv(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=specs)

    def both(x, w):
        y, pull = fg.vjp(conv, x, w)
        return [y, *pull(y)]

    last = specs == LAYOUTS[2][1]
    found = steps_of(both, x, w)
    assert found == ["dot_general"] * 3 if last else "dot_general" in found
    close(run(both, x, w)[0], both(x, w))
    close(fg.jit(both)(x, w), both(x, w))


@pytest.mark.parametrize("specs", LAYOUTS[2])
def test_a_window_as_large_as_the_input_is_a_matrix_product(specs):
    data = np.random.default_rng(1)
    x = laid_out(data.normal(size=(3, 4, 9, 8)).astype(np.float32), specs[0])
    w = laid_out(data.normal(size=(5, 4, 9, 8)).astype(np.float32), specs[1])

    def conv(x, w):
        return [lax.conv_general_dilated(x, w, (2, 1), "VALID", dimension_numbers=specs)]

    assert steps_of(conv, x, w) == ["dot_general"]
    close(run(conv, x, w)[0], conv(x, w))
    close(fg.jit(conv)(x, w), conv(x, w))


@pytest.mark.parametrize("specs", LAYOUTS[2])
@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((-1, 0), (0, -2)), ((1, 0), (0, 1))])
def test_gradients_of_strided_convolutions_by_one_place(specs, pads):
    data = np.random.default_rng(2)
    x = laid_out(data.normal(size=(3, 4, 18, 20)).astype(np.float32), specs[0])
    w = laid_out(data.normal(size=(5, 4, 1, 1)).astype(np.float32), specs[1])

    def pulled(x, w):
        y, pull = fg.vjp(
            lambda w: lax.conv_general_dilated(x, w, (2, 3), pads, dimension_numbers=specs), w
        )
        return pull(y)

    found = steps_of(pulled, x, w)
    assert ("dot_general" in found) == (max(map(max, pads)) <= 0)
    close(run(pulled, x, w)[0], pulled(x, w))
    close(fg.jit(pulled)(x, w), pulled(x, w))


@pytest.mark.parametrize(
    ("size", "pads", "step"), [(3, (0, -2), 1), (3, (-1, -1), 1), (1, (0, 1), 2)]
)
def test_one_place_of_a_window_of_one_that_padding_leaves(size, pads, step):
    def f(x, w):
        return lax.conv_general_dilated(
            x, w, [step], [pads], dimension_numbers=("NCH", "OIH", "NCH")
        )

    x = np.random.default_rng(0).normal(size=(2, 3, size))
    w = np.random.default_rng(1).normal(size=(4, 3, 1))
    close([fg.jit(f)(x, w)], [f(x, w)])
