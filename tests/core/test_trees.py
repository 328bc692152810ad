import threading
from collections import OrderedDict, defaultdict, deque, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.core import trees
from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import keystr, register
from fgrad.core.treedef import LEAF

Point = namedtuple("Point", "x y")


class Node:
    def __init__(self, *children):
        self.children = children

    def __eq__(self, other):
        return type(other) is Node and self.children == other.children

    def __repr__(self):
        return f"Node{self.children}"


register(Node, lambda n: (list(n.children), None), lambda _, c: Node(*c))


def nests(children):
    keys = st.sampled_from("abc")
    return st.one_of(
        st.lists(children, max_size=5),
        st.lists(children, max_size=5).map(tuple),
        st.lists(children, max_size=3).map(deque),
        st.dictionaries(keys, children),
        st.dictionaries(keys, children).map(OrderedDict),
        st.dictionaries(keys, children).map(lambda d: defaultdict(list, d)),
        st.tuples(children, children).map(lambda c: Point(*c)),
        st.lists(children, max_size=3).map(lambda c: Node(*c)),
    )


TREES = st.recursive(st.one_of(st.integers(), st.floats(allow_nan=False), st.none()), nests)


def spelt_out(tree):
    """The leaves by a definition of its own."""
    if tree is None:
        return []
    if isinstance(tree, OrderedDict):
        return [x for value in tree.values() for x in spelt_out(value)]
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in spelt_out(tree[key])]
    if isinstance(tree, Node):
        return spelt_out(tree.children)
    if isinstance(tree, tuple | list | deque):
        return [x for child in tree for x in spelt_out(child)]
    return [tree]


@given(TREES)
def test_flatten_gives_the_leaves_in_order_and_unflatten_inverts_it(tree):
    leaves, treedef = trees.flatten(tree)
    assert leaves == spelt_out(tree) == trees.leaves(tree)
    assert trees.unflatten(treedef, leaves) == tree
    assert type(trees.unflatten(treedef, leaves)) is type(tree)
    assert trees.structure(tree) == treedef


@given(TREES)
def test_paths_come_in_the_order_of_the_leaves_and_are_distinct(tree):
    pairs, treedef = trees.flatten_with_path(tree)
    leaves, expected = trees.flatten(tree)
    assert [leaf for _, leaf in pairs] == leaves
    assert treedef == expected
    assert len({keystr(path) for path, _ in pairs}) == len(leaves)


@given(TREES)
def test_map_is_a_functor(tree):
    assert trees.tree_map(lambda x: x, tree) == tree
    once = trees.tree_map(lambda x: (x, 1), tree)
    leaves = trees.leaves(once, is_leaf=lambda n: type(n) is tuple and len(n) == 2 and n[1] == 1)
    assert [pair[0] for pair in leaves] == trees.leaves(tree)
    doubled = trees.tree_map(lambda x, y: [x, y], tree, tree)
    assert trees.leaves(doubled) == [x for leaf in trees.leaves(tree) for x in (leaf, leaf)]


@given(TREES, st.integers(0, 3))
def test_a_leaf_prefix_covers_every_leaf(tree, axis):
    count = len(trees.leaves(tree))
    assert trees.flatten_axes(axis, tree) == [axis] * count
    assert trees.flatten_axes(None, tree) == [None] * count
    assert trees.flatten_axes(tree, trees.structure(tree)) == trees.leaves(tree)
    assert trees.broadcast_prefix(tree, tree) == trees.leaves(tree)


def test_is_leaf_stops_at_any_node_also_at_the_root_and_at_none():
    tree = {"a": (1, None), "b": [2]}
    assert trees.leaves(tree, is_leaf=lambda n: isinstance(n, tuple)) == [(1, None), 2]
    assert trees.leaves(tree, is_leaf=lambda n: n is None) == [1, None, 2]
    assert trees.flatten((1, 2), is_leaf=lambda n: True) == ([(1, 2)], LEAF)
    assert trees.flatten(None, is_leaf=lambda n: n is None) == ([None], LEAF)
    pairs, treedef = trees.flatten_with_path(tree, is_leaf=lambda n: isinstance(n, tuple))
    assert [keystr(path) for path, _ in pairs] == ["['a']", "['b'][0]"]
    assert treedef == trees.structure({"a": 0, "b": [0]})


def test_leaves_are_passed_through_by_identity():
    x = np.zeros(2)
    for tree in (x, (x,), [x, x], {"a": x}, (1, [x])):
        assert trees.leaves(tree)[-1] is x


def test_unsortable_keys_raise_at_any_depth_and_every_time():
    for tree in ({1: 0, "a": 0}, ([{1j: 0, 2j: 0}],), {"a": {None: 1, "b": 2}}):
        for _ in range(2):
            with pytest.raises(TreeError, match="cannot be compared"):
                trees.flatten(tree)
        with pytest.raises(TreeError, match="cannot be compared"):
            trees.flatten_with_path(tree)
    assert trees.leaves({1: "x", 2.5: "y"}) == ["x", "y"]
    assert trees.leaves(OrderedDict([(1, "x"), ("a", "y")])) == ["x", "y"]
    assert trees.leaves([{1: 0, "a": 0}], is_leaf=lambda n: isinstance(n, dict)) == [{1: 0, "a": 0}]


def test_map_names_the_tree_and_path_that_differ():
    with pytest.raises(TreeError, match=r"tree 3 does not match .*; at \['a'\]\[1\]: expected Non"):
        trees.tree_map(max, {"a": [1, None]}, {"a": [1, None]}, {"a": [1, 2]})


def test_map_with_path():
    found = trees.tree_map_with_path(
        lambda path, x, y: f"{keystr(path)}={x}{y}", Point(1, [2]), Point("a", ["b"])
    )
    assert found == Point(".x=1a", [".y[0]=2b"])


def test_flatten_axes_takes_none_as_a_value_and_names_what_does_not_fit():
    args = ({"w": 1, "b": None}, [2, 3], 4)
    assert trees.flatten_axes(({"w": 0, "b": None}, None, 1), args) == [0, None, None, 1]
    with pytest.raises(
        TreeError,
        match=r"in_axes must be a prefix .* at in_axes\[1\]: in_axes has tuple of length 2, the "
        r"tree has list of length 2",
    ):
        trees.flatten_axes((0, (0, 1), 0), args, name="in_axes")
    with pytest.raises(TreeError, match=r"at axes\[2\]: axes has list of length 1, .* has a leaf"):
        trees.flatten_axes((0, 0, [0]), args)
    with pytest.raises(TreeError, match=r"tuple of length 2, the tree has tuple of length 3"):
        trees.flatten_axes((0, 0), args)


def test_broadcast_prefix_keeps_none_as_a_node():
    assert trees.broadcast_prefix([1, None], [(0, 0), None]) == [1, 1]
    with pytest.raises(TreeError, match="prefix has None, the tree has a leaf"):
        trees.broadcast_prefix([1, None], [0, 0])


def test_transpose():
    tree = {"a": (1, [2]), "b": (3, [4])}
    outer, inner = trees.structure({"a": 0, "b": 0}), trees.structure((0, [0]))
    turned = ({"a": 1, "b": 3}, [{"a": 2, "b": 4}])
    assert trees.transpose(outer, inner, tree) == turned
    assert trees.transpose(outer, None, tree) == turned
    assert trees.transpose(inner, outer, turned) == tree
    with pytest.raises(TreeError, match="transpose needs"):
        trees.transpose(outer, inner, {"a": (1, [2]), "b": (3, 4)})
    with pytest.raises(TreeError, match="cannot infer"):
        trees.transpose(trees.structure(()), None, ())


def test_static_parts_of_registered_classes_need_only_compare():
    class Listed:
        def __init__(self, value, notes):
            self.value, self.notes = value, notes

    register(Listed, lambda x: ((x.value,), x.notes), lambda notes, c: Listed(*c, notes))
    mapped = trees.tree_map(lambda x: x + 1, (Listed(1, ["note"]), 2))
    assert (mapped[0].value, mapped[0].notes, mapped[1]) == (2, ["note"], 3)
    assert trees.structure(Listed(1, [3])) == trees.structure(Listed(2, [3]))
    assert trees.structure(Listed(1, [3])) != trees.structure(Listed(1, [4]))


def test_threads_flatten_at_once():
    tree = {"a": [1, (2, Node(3))], "b": None}
    found = []

    def work():
        found.extend([trees.tree_map(lambda x: x + 1, tree) for _ in range(200)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a": [2, (3, Node(4))], "b": None}] * 1600
