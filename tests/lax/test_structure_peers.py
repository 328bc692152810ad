"""Views, reductions, indexing and sorting against JAX: see `against_jax.check`."""

import numpy as np
import pytest

from fgrad import lax
from tests.lax.against_jax import check

pytestmark = pytest.mark.peers

_rng = np.random.default_rng(0)
X = _rng.standard_normal((3, 4))


def _starts(*shape):
    return _rng.integers(0, 3, shape)


# name → operand shape, indices, dimension numbers, window
GATHERS = {
    "rows": ((4, 3), _starts(5, 1), ((1,), (0,), (0,)), (1, 3)),
    "rows by a matrix": ((4, 3), _starts(2, 3, 1), ((2,), (0,), (0,)), (1, 3)),
    "columns": ((4, 3), _starts(5, 1), ((0,), (1,), (1,)), (4, 1)),
    "middle axis": ((2, 4, 3), _starts(5, 1), ((0, 2), (1,), (1,)), (2, 1, 3)),
    "points": ((4, 3), _starts(5, 2), ((), (0, 1), (0, 1)), (1, 1)),
    "points, swapped": ((3, 3, 2), _starts(5, 2), ((1,), (0, 1), (1, 0)), (1, 1, 2)),
    "points of the last axes": ((2, 3, 4), _starts(5, 2), ((1,), (1, 2), (1, 2)), (2, 1, 1)),
    "points of outer axes": ((3, 2, 4), _starts(5, 2), ((1,), (0, 2), (0, 2)), (1, 2, 1)),
    "windows": ((6, 5), _starts(2, 2), ((0, 2), (), (0, 1)), (2, 3)),
    "a window": ((4, 3), _starts(1), ((0,), (0,), (0,)), (1, 3)),
    "no index": ((4, 3), np.zeros((5, 0), int), ((1, 2), (), ()), (4, 3)),
    "batched": ((3, 4, 2), _starts(5, 3, 1), ((0,), (1,), (1,), (0,), (1,)), (1, 1, 2)),
    "no batch": ((4, 3), _starts(0, 1), ((1,), (0,), (0,)), (1, 3)),
}
MODES = ("clip", "fill")


def _outside(indices):
    found = indices.copy()
    if found.size:
        found.flat[0], found.flat[-1] = 100, -1
    return found


def _jax():
    return pytest.importorskip("jax").lax


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GATHERS)
def test_gather_agrees_with_jax(name, mode):
    shape, indices, numbers, sizes = GATHERS[name]
    jlax = _jax()
    ours, theirs = lax.GatherDimensionNumbers(*numbers), jlax.GatherDimensionNumbers(*numbers)
    x = _rng.standard_normal(shape)
    for i in (indices, _outside(indices)):
        options = {"mode": mode, "fill_value": 0}
        check(
            lambda x, i=i: lax.gather(x, i, ours, sizes, **options),  # noqa: B023
            lambda x, i=i: jlax.gather(x, i, theirs, sizes, **options),  # noqa: B023
            [x],
            batch=i is indices,
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["scatter", "scatter_add", "scatter_min", "scatter_max"])
@pytest.mark.parametrize("name", GATHERS)
def test_scatters_agree_with_jax(name, kind, mode):
    shape, indices, numbers, sizes = GATHERS[name]
    jlax = _jax()
    ours, theirs = lax.ScatterDimensionNumbers(*numbers), jlax.ScatterDimensionNumbers(*numbers)
    gathers = lax.GatherDimensionNumbers(*numbers)
    x = _rng.standard_normal(shape)
    updates = _rng.standard_normal(lax.gather(x, indices, gathers, sizes, mode="clip").shape)
    # JAX divides by a count of 0 where it clips the indices of extrema.
    wrong = kind in ("scatter_min", "scatter_max") and mode == "clip"
    for i in (indices,) if wrong else (indices, _outside(indices)):
        check(
            lambda x, u, i=i: getattr(lax, kind)(x, i, u, ours, mode=mode),
            lambda x, u, i=i: getattr(jlax, kind)(x, i, u, theirs, mode=mode),
            [x, updates],
            batch=i is indices and mode == "clip",
        )


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("name", GATHERS)
def test_batches_of_indices_agree_with_jax(name, dims):
    jax = pytest.importorskip("jax")
    import fgrad as fg

    shape, indices, numbers, sizes = GATHERS[name]
    ours = lax.GatherDimensionNumbers(*numbers)
    theirs = jax.lax.GatherDimensionNumbers(*numbers)
    x = _rng.standard_normal(shape if dims[0] is None else (2, *shape))
    i = indices if dims[1] is None else np.stack([indices, np.maximum(indices - 1, 0)])
    found = fg.vmap(lambda x, i: lax.gather(x, i, ours, sizes, mode="clip"), in_axes=dims)(x, i)
    with jax.enable_x64(True):
        expected = jax.vmap(
            lambda x, i: jax.lax.gather(x, i, theirs, sizes, mode="clip"), in_axes=dims
        )(x, i)
    np.testing.assert_array_equal(np.asarray(found), expected)


CALLS = {
    "slice": (lambda m: lambda x: m.slice(x, (0, 1), (3, 4), (2, 1)), [X]),
    "pad": (lambda m: lambda x, v: m.pad(x, v, ((1, -1, 2), (0, 3, 1))), [X, X[0, 0]]),
    "pad less": (lambda m: lambda x, v: m.pad(x, v, ((-2, 1, 1), (-1, -1, 0))), [X, X[0, 0]]),
    "concatenate": (lambda m: lambda x, y: m.concatenate([x, y, x], 1), [X, X[:, :2]]),
    "split": (lambda m: lambda x: list(m.split(x, (1, 0, 3), 1)), [X]),
    "rev": (lambda m: lambda x: m.rev(x, (1,)), [X]),
    "reduce_prod": (lambda m: lambda x: m.reduce_prod(x, (0,)), [X * (X > 0)]),
    "reduce_max": (lambda m: lambda x: m.reduce_max(x, (1,)), [np.round(X)]),
    "reduce_min": (lambda m: lambda x: m.reduce_min(x, (0, 1)), [np.round(X)]),
    "cumsum": (lambda m: lambda x: m.cumsum(x, 1, True), [X]),
    "cumprod": (lambda m: lambda x: m.cumprod(x, 0), [X * (X > 0)]),
    "cummax": (lambda m: lambda x: m.cummax(x, 1), [X]),
    "cummin": (lambda m: lambda x: m.cummin(x, 1, True), [X]),
    "cumlogsumexp": (lambda m: lambda x: m.cumlogsumexp(x, 1), [X * 50]),
    "sort": (lambda m: lambda x: m.sort(x, 0), [np.round(X)]),
    "sort by two": (lambda m: lambda x, y: list(m.sort((np.round(X), x, y), 1, num_keys=2))[1:],
                    [X, X * X]),
    "top_k": (lambda m: lambda x: list(m.top_k(x, 2, axis=0)), [np.round(X) + 0.0]),
    "dynamic_slice": (lambda m: lambda x: m.dynamic_slice(x, (-2, 9), (2, 2)), [X]),
    "dynamic_update_slice": (lambda m: lambda x, u: m.dynamic_update_slice(x, u, (1, -1)),
                             [X, X[:2, :2]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_agree_with_jax(name):
    make, args = CALLS[name]
    check(make(lax), make(_jax()), args)
