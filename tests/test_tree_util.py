import pytest

from fgrad import tree_util
from fgrad.core.errors import TreeError
from fgrad.tree_util import PyTreeDef, SequenceKey, tree_structure


def test_reduce():
    tree = {"a": 1, "b": [2, 3]}
    assert tree_util.tree_reduce(lambda a, x: [a, x], tree) == [[1, 2], 3]
    assert tree_util.tree_reduce(lambda a, x: a + x, tree, 10) == 16
    assert tree_util.tree_reduce(lambda a, x: a + x, [], None) is None, "None is an initializer"
    with pytest.raises(TreeError, match="needs an initializer"):
        tree_util.tree_reduce(max, {})


def test_all():
    assert tree_util.tree_all([True, {"a": 1}])
    assert tree_util.tree_all(None)
    assert not tree_util.tree_all([True, 0])
    assert tree_util.tree_all([[0]], is_leaf=lambda n: n == [0])


def test_broadcast():
    found = tree_util.tree_broadcast({"a": 1, "b": (2, 3)}, {"a": [0, 0], "b": ({"c": 0}, 0)})
    assert found == {"a": [1, 1], "b": ({"c": 2}, 3)}
    with pytest.raises(TreeError, match=r"at prefix_tree\['a'\]"):
        tree_util.tree_broadcast({"a": [1]}, {"a": 0})


def test_all_leaves():
    assert tree_util.all_leaves([1, "a"])
    assert not tree_util.all_leaves([1, (2,)])
    assert tree_util.all_leaves([1, (2,)], is_leaf=lambda n: isinstance(n, tuple))


def test_build_tree_fills_the_root_only():
    treedef = tree_structure({"a": 0, "b": [0, 0]})
    assert tree_util.build_tree(treedef, [1, [2, 3]]) == {"a": 1, "b": [2, 3]}
    with pytest.raises(TreeError, match="needs 2 children"):
        tree_util.build_tree(treedef, [1])


def test_functions_of_structures():
    treedef = tree_structure((1, [2, 3]))
    assert isinstance(treedef, PyTreeDef)
    assert tree_util.treedef_children(treedef) == [tree_structure(1), tree_structure([1, 2])]
    assert tree_util.treedef_tuple(tree_util.treedef_children(treedef)) == treedef
    assert tree_util.treedef_is_leaf(tree_structure(1))
    assert not tree_util.treedef_is_leaf(treedef)
    assert tree_util.tree_unflatten(treedef, "abc") == ("a", ["b", "c"])


def test_one_level():
    tree = {"b": [1], "a": None}
    assert tree_util.flatten_one_level(tree)[0] == [None, [1]]
    pairs, _ = tree_util.flatten_one_level_with_keys(tree)
    assert [(str(key), child) for key, child in pairs] == [("['a']", None), ("['b']", [1])]
    assert tree_util.flatten_one_level(None)[0] == []
    for function in (tree_util.flatten_one_level, tree_util.flatten_one_level_with_keys):
        with pytest.raises(TreeError, match="needs a node, got a leaf of type int"):
            function(1)
    assert tree_util.is_tree_node(type(None))
    assert tree_util.is_tree_node(dict)
    assert not tree_util.is_tree_node(int)


def test_reduce_associative_keeps_order_in_a_balanced_tree():
    def join(a, b):
        return f"({a}{b})"

    reduce = tree_util.tree_reduce_associative
    assert reduce(join, list("abcd")) == "((ab)(cd))"
    assert reduce(join, list("abc")) == "((ab)c)"
    assert reduce(join, "a") == "a"
    assert reduce(join, [], identity=None) is None
    assert reduce(max, {"a": [1, 5], "b": 3}, identity=0) == 5
    with pytest.raises(TreeError, match="needs identity"):
        reduce(join, ())


def test_leaves_with_path():
    assert tree_util.tree_leaves_with_path([5]) == [((SequenceKey(0),), 5)]


@pytest.mark.peers
def test_names_and_answers_are_those_of_jax():
    import jax

    missing = {n for n in dir(jax.tree_util) if not n.startswith("_")} - set(tree_util.__all__)
    assert missing == {"default_registry"}
    tree = {"b": [1, None, (2.0,)], "a": {"y": 3, "x": ()}}
    theirs, _ = jax.tree_util.tree_flatten_with_path(tree)
    ours, _ = tree_util.tree_flatten_with_path(tree)
    assert [(tree_util.keystr(p), x) for p, x in ours] == [
        (jax.tree_util.keystr(p), x) for p, x in theirs
    ]
