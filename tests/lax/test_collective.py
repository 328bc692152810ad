"""Collectives under vmap: against NumPy over the whole batch, in every nesting and transform."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import ArgumentError, AxisError, AxisNameError, ShapeError

X = np.random.default_rng(0).standard_normal((4, 8, 4))
PERM = [(0, 1), (1, 2), (3, 0)]


def _sent(x):
    out = np.zeros_like(x)
    for s, t in PERM:
        out[t] = x[s]
    return out


def _exchanged(x, split, concat):
    """Element i gets part i of every element, joined."""
    parts = np.array(np.split(x, 4, axis=split + 1))  # [receiver, sender, ...]
    return np.stack([np.concatenate(list(p), axis=concat) for p in parts])


# name → (per element, the same over the whole batch in NumPy)
LINEAR = {
    "psum": (lambda x: lax.psum(x, "i"), lambda x: np.stack([x.sum(0)] * 4)),
    "pmean": (lambda x: lax.pmean(x, "i"), lambda x: np.stack([x.mean(0)] * 4)),
    "all_gather": (lambda x: lax.all_gather(x, "i", axis=1),
                   lambda x: np.stack([np.moveaxis(x, 0, 1)] * 4)),
    "all_gather_tiled": (lambda x: lax.all_gather(x, "i", axis=-1, tiled=True),
                         lambda x: np.stack([np.concatenate(list(x), axis=1)] * 4)),
    "psum_scatter": (lambda x: lax.psum_scatter(x, "i", scatter_dimension=1),
                     lambda x: np.moveaxis(x.sum(0), 1, 0)),
    "psum_scatter_tiled": (lambda x: lax.psum_scatter(x, "i", tiled=True),
                           lambda x: x.sum(0).reshape(4, 2, 4)),
    "ppermute": (lambda x: lax.ppermute(x, "i", PERM), _sent),
    "pshuffle": (lambda x: lax.pshuffle(x, "i", [3, 1, 0, 2]), lambda x: x[[3, 1, 0, 2]]),
    "all_to_all": (lambda x: lax.all_to_all(x, "i", 1, 0), lambda x: np.moveaxis(x, 2, 0)),
    "pswapaxes": (lambda x: lax.pswapaxes(x, "i", 1), lambda x: x.transpose(2, 1, 0)),
    "all_to_all_tiled": (lambda x: lax.all_to_all(x, "i", 1, 0, tiled=True),
                         lambda x: _exchanged(x, 1, 0)),
    "all_to_all_tiled_back": (lambda x: lax.all_to_all(x, "i", 0, 1, tiled=True),
                              lambda x: _exchanged(x, 0, 1)),
    "axis_index": (lambda x: x * lax.axis_index("i"), lambda x: x * np.arange(4)[:, None, None]),
}  # fmt: skip


def _matrix(numpy_of):
    rows = np.eye(X.size).reshape(X.size, *X.shape)
    return np.stack([numpy_of(r).reshape(-1) for r in rows], axis=1)


@pytest.mark.parametrize("name", LINEAR)
def test_value_and_transposes(name):
    per_element, numpy_of = LINEAR[name]
    f = fg.vmap(per_element, axis_name="i")
    want = numpy_of(X)
    for g in (f, fg.jit(f), fg.vmap(fg.jit(per_element), axis_name="i")):
        np.testing.assert_allclose(g(X), want, rtol=1e-12, atol=1e-12)
    matrix = _matrix(numpy_of)
    ct = np.random.default_rng(1).standard_normal(want.shape)
    back = (matrix.T @ ct.reshape(-1)).reshape(X.shape)
    np.testing.assert_allclose(fg.vjp(f, X)[1](ct)[0], back, rtol=1e-10, atol=1e-12)
    # The transpose of a collective is a collective: reverse mode within the mapped function.
    inner = fg.vmap(lambda x, c: fg.vjp(per_element, x)[1](c)[0], axis_name="i")
    np.testing.assert_allclose(inner(X, ct), back, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fg.jit(inner)(X, ct), back, rtol=1e-10, atol=1e-12)
    pushed = fg.vmap(lambda x: fg.jvp(per_element, (x,), (2 * x,))[1], axis_name="i")(X)
    np.testing.assert_allclose(pushed, 2 * want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_another_mapped_axis_is_carried_along(name):
    per_element, numpy_of = LINEAR[name]
    xs = np.stack([X, X + 1, -X])
    want = np.stack([numpy_of(x) for x in xs])
    outer = fg.vmap(fg.vmap(per_element, axis_name="i"), axis_name="j")
    np.testing.assert_allclose(outer(xs), want, rtol=1e-12, atol=1e-12)
    inner = fg.vmap(fg.vmap(per_element, in_axes=1), axis_name="i")
    moved = np.moveaxis(xs, 0, 2)  # the axis without a name lies within the elements
    np.testing.assert_allclose(inner(moved), np.moveaxis(want, 0, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("collective", "numpy_of"), [(lax.pmax, np.max), (lax.pmin, np.min)])
def test_extrema_share_the_derivative_among_ties(collective, numpy_of):
    x = np.array([2.0, 1.0, 2.0, 1.0])
    f = fg.vmap(lambda x: collective(x, "i"), axis_name="i")
    np.testing.assert_array_equal(f(x), np.full(4, numpy_of(x)))
    want = np.where(x == numpy_of(x), 0.5, 0.0) * 4
    np.testing.assert_array_equal(fg.grad(lambda x: f(x).sum())(x), want)


def test_several_names():
    def per_element(x):
        index = lax.axis_index(("j", "i"))
        top, gathered = lax.pmax(x, ("j", "i")), lax.all_gather(x, ("j", "i"))
        return lax.psum(x, ("i", "j")), index, top, gathered

    f = fg.vmap(fg.vmap(per_element, axis_name="i"), axis_name="j")
    x = np.arange(6.0).reshape(2, 3)
    total, index, top, gathered = f(x)
    np.testing.assert_array_equal(total, np.full((2, 3), 15.0))
    np.testing.assert_array_equal(index, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(top, np.full((2, 3), 5.0))
    np.testing.assert_array_equal(gathered[1, 2], x.reshape(-1))
    assert lax.psum(1, ()) == 1


def test_values_that_are_the_same_for_all():
    f = lambda x: lax.psum(3.0, "i") * x + lax.psum(fnp.ones(()), "i") + lax.axis_size("i")  # noqa: E731
    x = np.arange(4.0)
    np.testing.assert_array_equal(fg.vmap(f, axis_name="i")(x), 12 * x + 8)


def test_inside_programs():
    def f(x):
        def body(s, y):
            s = s + lax.psum(y * s, "i")
            return s, lax.axis_index("i") * s

        s, ys = lax.scan(body, x, np.arange(3.0))
        # The predicate is the same for all, so one branch runs; it holds a collective.
        return lax.cond(lax.psum(x, "i") > 0, lambda s: lax.pmean(s, "i") + x, lambda s: s, s) + (
            ys.sum()
        )

    x = np.array([0.3, -0.1, 0.4, 0.2])

    def plain(x):
        s, total = x, fnp.zeros(4)
        for y in range(3):
            s = s + (y * s).sum()
            total = total + fnp.arange(4) * s
        return s.mean() + x + total

    mapped = fg.vmap(f, axis_name="i")
    np.testing.assert_allclose(mapped(x), plain(x))
    for g in (mapped, fg.jit(mapped), fg.vmap(fg.jit(f), axis_name="i")):
        np.testing.assert_allclose(fg.jacrev(g)(x), fg.jacrev(plain)(x), rtol=1e-10, atol=1e-12)


def test_program_with_a_collective_but_no_mapped_operand():
    def f(x):
        return lax.scan(lambda s, y: (s + lax.axis_index("i"), lax.psum(y, "i")), 0, np.ones(3))

    s, ys = fg.vmap(fg.jit(f), axis_name="i")(np.zeros(4))
    np.testing.assert_array_equal(s, 3 * np.arange(4))
    np.testing.assert_array_equal(ys, np.full((4, 3), 4.0))


@pytest.mark.parametrize(
    ("f", "error", "match"),
    [
        (lambda x: lax.psum(x, "k"), AxisNameError, "'k' is not bound here .bound: 'i'"),
        (lambda x: fg.jit(lambda x: lax.pmax(x, "k"))(x), AxisNameError, "'k'"),
        (lambda x: lax.axis_size("k"), AxisNameError, "'k'"),
        (lambda x: lax.psum(x, "i", axis_index_groups=[[0]]), ArgumentError, "nest two vmaps"),
        (lambda x: lax.all_to_all(x, "i", 0, 0), ShapeError, "length 8.*needs 4"),
        (lambda x: lax.all_to_all(x, "i", 3, 0), AxisError, "split_axis"),
        (lambda x: lax.psum_scatter(x, "i"), ShapeError, "length 8.*needs 4"),
        (lambda x: lax.ppermute(x, "i", [(0, 9)]), ArgumentError, "size 4"),
        (lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]), ArgumentError, "once"),
        (lambda x: lax.pshuffle(x, "i", [0, 0, 1, 2]), ArgumentError, "once"),
        (lambda x: lax.all_to_all(x, ("i", "i"), 0, 0), ArgumentError, "one axis name"),
    ],
)
def test_bad_input(f, error, match):
    with pytest.raises(error, match=match):
        fg.vmap(f, axis_name="i")(X)


def test_unbound_outside_vmap():
    with pytest.raises(AxisNameError, match=r"bound: none"):
        lax.psum(1.0, "i")
