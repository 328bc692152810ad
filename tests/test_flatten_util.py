"""A tree as a vector, and back."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.flatten_util import ravel_pytree

TREE = {"b": np.arange(3.0), "n": (np.array([[4], [5]], np.int32), None), "s": 6.0}


def test_a_tree_goes_into_a_vector_and_comes_back():
    flat, unravel = ravel_pytree(TREE)
    np.testing.assert_array_equal(flat, [0, 1, 2, 4, 5, 6])
    assert flat.dtype == np.float64
    back = unravel(flat * 2.0)
    assert fg.tree.structure(back) == fg.tree.structure(TREE)
    assert back["n"][0].dtype == np.int32
    assert back["s"].dtype == np.float32
    for x, y in zip(fg.tree.leaves(back), fg.tree.leaves(TREE), strict=True):
        np.testing.assert_array_equal(x, 2 * np.asarray(y))


def test_it_is_transparent_to_transforms():
    params = {"w": fnp.ones((2, 2)), "c": fnp.float32(3.0)}
    flat, unravel = ravel_pytree(params)

    def loss(params):
        return fnp.sum(params["w"] ** 2) * params["c"]

    whole = fg.grad(lambda v: loss(unravel(v)))(flat)
    np.testing.assert_array_equal(whole, ravel_pytree(fg.grad(loss)(params))[0])
    assert fg.hessian(lambda v: loss(unravel(v)))(flat).shape == (5, 5)
    assert fg.jit(lambda p: ravel_pytree(p)[0])(params).shape == (5,)
    assert fg.vmap(unravel)(fnp.ones((3, 5)))["w"].shape == (3, 2, 2)


def test_a_tree_without_leaves_is_the_empty_vector():
    flat, unravel = ravel_pytree({"a": None})
    assert (flat.shape, flat.dtype) == ((0,), np.float32)
    assert unravel(flat) == {"a": None}


def test_a_vector_of_another_type_is_an_error():
    _, unravel = ravel_pytree(TREE)
    with pytest.raises(TypeError, match=r"the vector must be f64\[6\], got f64\[5\]"):
        unravel(np.ones(5))
    with pytest.raises(TypeError, match=r"convert it with astype\('float64'\)"):
        unravel(np.ones(6, np.float32))


@pytest.mark.peers
def test_the_vector_is_jaxs():
    from jax.flatten_util import ravel_pytree as theirs

    tree = {"z": np.ones((2, 1), np.float32), "a": [np.zeros(1, np.int32), np.float32(2.0)]}
    np.testing.assert_array_equal(ravel_pytree(tree)[0], theirs(tree)[0])
