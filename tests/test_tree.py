import pytest

from fgrad import tree, tree_util


@pytest.mark.parametrize("name", [n for n in tree.__all__ if n != "static"])
def test_short_names_are_those_of_tree_util(name):
    assert getattr(tree, name) is getattr(tree_util, f"tree_{name}")


def test_in_use():
    params = {"w": [1, 2], "b": None}
    leaves, treedef = tree.flatten(params)
    assert tree.unflatten(treedef, [x + 1 for x in leaves]) == tree.map(lambda x: x + 1, params)
    assert tree.structure(params) == treedef
    assert tree.reduce(lambda a, x: a + x, params) == 3


@pytest.mark.peers
def test_names_are_those_of_jax():
    import jax

    missing = {n for n in dir(jax.tree) if not n.startswith("_")} - set(tree.__all__)
    assert missing == set()
