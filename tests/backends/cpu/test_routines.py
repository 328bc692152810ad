"""Convolutions and pullbacks of pooling in machine code of their own, against the eager rules."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import dtypes, lax, nn
from fgrad.backends.cpu import direct
from fgrad.backends.cpu.compiler import compile_program
from fgrad.backends.cpu.routine_table import has_routine, routine_of
from fgrad.backends.cpu.target import host
from fgrad.compile.lower import lower
from fgrad.compile.plan import Library


def names(f, *args):
    """The equations of a jitted function that have a routine."""
    steps = lower(fg.make_jaxpr(f)(*args).jaxpr, lambda *_: True, has_routine).steps
    return [
        s.eqn.primitive.name
        for s in steps
        if isinstance(s, Library) and routine_of(s, host()) is not None
    ]


def with_pullbacks(f):
    def both(ct, *args):
        y, pull = fg.vjp(f, *args)
        return [y, *pull(ct)]

    return both


def close(found, wanted, dtype):
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(float(np.abs(b).max(initial=0)), 1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=scale * 4e3 * np.finfo(dtype).eps / 64)


CONVOLUTIONS = {
    "plain": ((2, 4, 16, 16), (6, 4, 3, 3), {"padding": ((1, 1), (1, 1))}),
    "odd sizes": ((3, 5, 17, 30), (7, 5, 3, 2), {"padding": ((1, 0), (2, 1))}),
    "strided": ((3, 5, 17, 40), (7, 5, 3, 3), {"window_strides": (2, 2), "padding": ((1, 0),) * 2}),
    "dilated, cut": (
        (3, 5, 17, 90), (7, 5, 3, 5),
        {"window_strides": (2, 3), "padding": ((-1, 0), (2, -1)), "rhs_dilation": (2, 2)},
    ),
    "long window": ((2, 8, 33, 33), (16, 8, 7, 7), {"padding": ((3, 3), (3, 3))}),
    "one axis": ((4, 8, 100), (16, 8, 5), {"window_strides": (1,), "padding": ((2, 2),)}),
    "channels last in": (
        (2, 16, 20, 4), (6, 4, 3, 3),
        {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "OIHW", "NCHW")},
    ),
    "filters last": (
        (2, 4, 16, 20), (3, 3, 4, 6),
        {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NCHW", "HWIO", "NCHW")},
    ),
    "channels last": (
        (2, 16, 20, 4), (3, 3, 4, 6),
        {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "channels last, whole vectors": (
        (2, 9, 21, 32), (3, 2, 32, 48),
        {"padding": ((1, 1), (2, -1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "channels last, narrow": (
        (3, 7, 7, 32), (3, 3, 32, 16),
        {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "channels last, groups": (
        (2, 9, 20, 32), (3, 3, 16, 32),
        {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
         "feature_group_count": 2},
    ),
    "batch last": (
        (4, 17, 33, 2), (4, 3, 3, 6),
        {"window_strides": (2, 1), "padding": ((1, 0),) * 2,
         "dimension_numbers": ("CHWN", "IHWO", "NHCW")},
    ),
    "groups": (
        (3, 6, 18, 18), (9, 2, 3, 3), {"padding": ((1, 1),) * 2, "feature_group_count": 3},
    ),
    "single features": (
        (3, 6, 18, 18), (12, 1, 3, 3), {"padding": ((1, 1),) * 2, "feature_group_count": 6},
    ),
    "single features, strided": (
        (2, 8, 37, 37), (8, 1, 5, 5),
        {"window_strides": (2, 2), "padding": ((2, 2),) * 2, "feature_group_count": 8},
    ),
    "groups of the batch": (
        (6, 4, 18, 18), (9, 4, 3, 3), {"padding": ((1, 1),) * 2, "batch_group_count": 3},
    ),
    "strided groups": (
        (3, 4, 19, 35), (6, 2, 3, 3),
        {"window_strides": (2, 2), "padding": ((1, 1),) * 2, "feature_group_count": 2},
    ),
    "narrow rows": ((5, 8, 7, 7), (16, 8, 3, 3), {"padding": ((1, 1),) * 2}),
    "narrow, odd": ((2, 8, 9, 5), (7, 8, 2, 3), {"padding": ((1, 2), (2, 0))}),
    "narrow groups": (
        (3, 12, 6, 6), (9, 4, 3, 3), {"padding": ((1, 1),) * 2, "feature_group_count": 3},
    ),
    "three axes": (
        (2, 3, 6, 9, 17), (5, 3, 3, 2, 3), {"window_strides": (1,) * 3, "padding": ((1, 1),) * 3},
    ),
    "three axes, strided": (
        (2, 3, 7, 9, 35), (5, 3, 2, 3, 3),
        {"window_strides": (2, 1, 2), "padding": ((1, 0),) * 3, "rhs_dilation": (2, 1, 1)},
    ),
    "three narrow axes": (
        (2, 8, 5, 6, 5), (6, 8, 3, 3, 3), {"window_strides": (1,) * 3, "padding": ((1, 1),) * 3},
    ),
    "long axis": ((1, 4, 1000), (8, 4, 5), {"window_strides": (1,), "padding": ((2, 2),)}),
    "dilated input": (
        (2, 8, 16, 16), (6, 8, 3, 3), {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1))},
    ),
    "dilated by more than the window": (
        (2, 8, 16, 16), (6, 8, 2, 2), {"lhs_dilation": (3, 1), "padding": ((1, 2), (2, -1))},
    ),
    "dilated, last": (
        (2, 16, 16, 16), (3, 3, 16, 16),
        {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1)),
         "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "dilated groups": (
        (2, 8, 7, 16), (6, 4, 4, 4),
        {"lhs_dilation": (1, 2), "padding": ((2, 2), (2, 2)), "feature_group_count": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_agree_with_the_eager_rule(name, dtype):
    x_shape, w_shape, params = CONVOLUTIONS[name]
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(dtype) for s in (x_shape, w_shape))

    def conv(x, w):
        given = {"window_strides": (1, 1), **params}
        return lax.conv_general_dilated(x, w, **given)

    ct = rng.normal(size=conv(x, w).shape).astype(dtype)
    assert names(conv, x, w) == ["conv_general_dilated"]
    f = with_pullbacks(conv)
    close(fg.jit(f)(ct, x, w), f(ct, x, w), dtype)


NARROW_FLOATS = [
    "odd sizes", "strided", "narrow rows", "groups", "dilated, last",
    "channels last, whole vectors",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", NARROW_FLOATS)
def test_narrow_floats_are_computed_in_float32_and_rounded_once(name, dtype):
    x_shape, w_shape, params = CONVOLUTIONS[name]
    rng = np.random.default_rng(4)
    x, w = (rng.normal(size=s).astype(dtypes.dtype(dtype)) for s in (x_shape, w_shape))

    def conv(x, w):
        return lax.conv_general_dilated(x, w, **{"window_strides": (1, 1), **params})

    assert names(conv, x, w) == ["conv_general_dilated"]
    f = with_pullbacks(conv)
    ct = np.asarray(conv(x, w))
    for a, b in zip(fg.jit(f)(ct, x, w), f(ct, x, w), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype == dtypes.dtype(dtype)
        off = np.abs(a.astype("f") - b.astype("f"))
        unit = float(dtypes.finfo(dtype).eps)
        # The same float32 sums but for their order: few results round to another neighbour.
        assert (off <= unit * np.maximum(np.abs(b.astype("f")), 1)).all()
        assert (off == 0).mean() > 0.9


def test_all_three_convolutions_of_a_layer_are_routines():
    x, w = np.ones((2, 4, 16, 32), "f"), np.ones((8, 4, 3, 3), "f")
    f = with_pullbacks(lambda x, w: nn.conv(x, w, padding=1))
    assert names(f, np.ones((2, 8, 16, 32), "f"), x, w) == ["conv_general_dilated"] * 3


@pytest.mark.parametrize("limit", [1, 30_000])
def test_input_is_packed_in_parts(monkeypatch, limit):
    monkeypatch.setattr(direct, "_PACKED_BYTES", limit)
    x_shape, w_shape, params = CONVOLUTIONS["odd sizes"]
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=s).astype("f") for s in (x_shape, w_shape))
    f = with_pullbacks(lambda x, w: lax.conv_general_dilated(x, w, (1, 1), **params))
    ct = rng.normal(size=(3, 7, 16, 32)).astype("f")
    jaxpr = fg.make_jaxpr(f)(ct, x, w).jaxpr
    close(compile_program(jaxpr).run(ct, x, w), f(ct, x, w), "f")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_lies_outside_of_the_input_never_reaches_a_result(dtype):
    """An infinity meets only what its place in the window reaches."""
    x = np.zeros((1, 4, 16, 19), dtype)
    x[0, 0, 3, 18] = np.inf
    w = np.ones((8, 4, 3, 3), dtype)
    conv = fg.jit(lambda x, w: nn.conv(x, w, padding=1))
    y = np.array(conv(x, w))
    assert np.isinf(y[0, :, 2:5, 17:]).all()
    y[0, :, 2:5, 17:] = 0
    assert not y.any()
    ct = np.ones((1, 8, 16, 19), dtype)
    g = fg.jit(lambda x, w: fg.vjp(lambda w: nn.conv(x, w, padding=1), w)[1](ct)[0])
    # The last column meets the first place of the window nowhere: no position lies beyond it.
    assert np.isinf(np.asarray(g(x, w))[:, 0, :, 1:]).all()
    assert not np.asarray(g(x, w))[:, 0, :, 0].any()
    assert not np.asarray(g(x, w))[:, 1:].any()


@pytest.mark.parametrize(
    "name", ["narrow rows", "narrow, odd", "three narrow axes", "dilated input"]
)
def test_infinities_stay_in_their_rows(name):
    """Rows that are walked as one, and positions of each remainder, do not see their neighbours."""
    x_shape, w_shape, params = CONVOLUTIONS[name]
    x, w = np.ones(x_shape, "f"), np.ones(w_shape, "f")
    x[..., -1], x[..., 1, 0] = np.inf, np.nan

    def conv(x, w):
        return lax.conv_general_dilated(x, w, **{"window_strides": (1, 1), **params})

    f = with_pullbacks(conv)
    ct = np.ones(conv(x, w).shape, "f")
    ct[..., 0, :] = np.inf
    for a, b in zip(fg.jit(f)(ct, x, w), f(ct, x, w), strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


def test_results_do_not_depend_on_other_elements_of_the_batch():
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(5, 4, 20, 20)).astype("f"), rng.normal(size=(9, 4, 3, 3)).astype("f")
    conv = fg.jit(lambda x, w: nn.conv(x, w, padding=1))
    assert (np.asarray(conv(x, w))[3:4] == np.asarray(conv(x[3:4], w))).all()


TILED = 6  # the first pools: their windows lie side by side
POOLS = [
    ((2, 3, 8, 64), (1, 1, 2, 2), (1, 1, 2, 2), "VALID", None),
    ((2, 3, 9, 71), (1, 1, 2, 2), (1, 1, 2, 2), "VALID", None),
    ((2, 9, 71), (1, 3, 3), (1, 3, 3), "VALID", None),
    ((9, 71), (2, 4), (2, 4), "VALID", None),
    ((9, 71), (1, 3), (1, 3), "VALID", None),
    ((9, 71), (3, 1), (3, 1), "VALID", None),
    ((2, 9, 20), (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)), None),
    ((2, 9, 20), (1, 3, 2), (1, 1, 1), "SAME", (1, 2, 3)),
    ((2, 9, 20), (1, 2, 2), (1, 2, 2), ((0, 0), (-1, 2), (3, -1)), None),
    ((3, 9, 5), (1, 5, 5), (1, 5, 5), "SAME", None),
    ((9, 20), (2, 2), (3, 3), "VALID", None),
    ((9, 20), (2, 2), (2, 2), ((3, 3), (4, 4)), None),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("case", range(len(POOLS)))
def test_pullbacks_of_pooling_agree_with_the_eager_rule(case, kind, dtype):
    shape, window, steps, padding, dilation = POOLS[case]
    rng = np.random.default_rng(case)
    x = rng.integers(-3, 4, size=shape).astype(dtype)  # many ties
    x.reshape(-1)[rng.integers(0, x.size, 5)] = np.nan
    start = -np.inf if kind == "max" else np.inf

    def pool(x):
        return lax.reduce_window(x, start, kind, window, steps, padding, None, dilation)

    ct = rng.normal(size=pool(x).shape).astype(dtype)
    f = with_pullbacks(pool)
    of_their_own = ["select_and_scatter_add"] if case < TILED else []
    assert names(f, ct, x) == of_their_own
    assert {s.kind for s in fg.jit(f).lower(ct, x).schedule()} == {"kernel"}
    found, wanted = fg.jit(f)(ct, x), f(ct, x)
    np.testing.assert_array_equal(np.asarray(found[0]), np.asarray(wanted[0]))
    tiny = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(np.asarray(found[1]), np.asarray(wanted[1]), rtol=tiny, atol=tiny)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1)])
def test_pooling_reads_views(order):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 8, 64)).astype("f")
    f = with_pullbacks(lambda x: nn.max_pool(fnp.transpose(x, order)[None], 2))
    shape = [x.shape[i] for i in order]
    ct = rng.normal(size=(1, shape[0], shape[1] // 2, shape[2] // 2)).astype("f")
    for a, b in zip(fg.jit(f)(ct, x), f(ct, x), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
