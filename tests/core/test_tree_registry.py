import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque, namedtuple

import numpy as np
import pytest

from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    SequenceKey,
    is_leaf_type,
    keystr,
    one_level,
    register,
    rule_of,
)

Point = namedtuple("Point", "x y")


def test_keys_print_compare_and_pickle():
    path = (DictKey("a"), SequenceKey(0), GetAttrKey("w"), FlattenedIndexKey(2))
    assert keystr(path) == "['a'][0].w[<flat index 2>]"
    assert keystr(path, simple=True, separator="/") == "a/0/w/2"
    assert keystr(()) == ""
    assert repr(path[:2]) == "(DictKey(key='a'), SequenceKey(idx=0))"
    assert (path[0].key, path[1].idx, path[2].name, path[3].key) == ("a", 0, "w", 2)
    assert DictKey(0) != SequenceKey(0)
    assert len({DictKey(0), DictKey(0), SequenceKey(0)}) == 2
    assert pickle.loads(pickle.dumps(path)) == path


def test_what_is_a_leaf():
    class Pair(tuple):
        pass

    class Table(dict):
        pass

    for kind in (int, str, np.ndarray, object, set, Pair, Table):
        assert is_leaf_type(kind)
    for kind in (type(None), tuple, list, dict, OrderedDict, defaultdict, deque, Point):
        assert not is_leaf_type(kind)


@pytest.mark.parametrize(
    ("node", "path", "children", "static"),
    [
        (None, [], [], None),
        ((1, 2), ["[0]", "[1]"], [1, 2], None),
        ([1], ["[0]"], [1], None),
        (deque([1], 3), ["[0]"], [1], 3),
        (Point(1, 2), [".x", ".y"], [1, 2], Point),
        ({"b": 1, "a": 2}, ["['a']", "['b']"], [2, 1], ("a", "b")),
        (defaultdict(int, b=1, a=2), ["['a']", "['b']"], [2, 1], (int, ("a", "b"))),
        (OrderedDict(b=1, a=2), ["['b']", "['a']"], [1, 2], ("b", "a")),
    ],
)
def test_one_level_of_each_container(node, path, children, static):
    pairs, found = one_level(node)
    assert [str(key) for key, _ in pairs] == path
    assert [child for _, child in pairs] == children
    assert found == static


def test_dict_keys_must_be_sortable():
    with pytest.raises(TreeError, match=r"keys of type int, str cannot be compared: \[1, 'a'\]"):
        one_level({1: 0, "a": 0})


class Box:
    def __init__(self, *content):
        self.content = content


register(Box, lambda box: (box.content, len(box.content)), lambda _, content: Box(*content))


def test_a_registered_class_comes_apart_by_its_rule():
    assert one_level(Box(1, 2)) == ([(FlattenedIndexKey(0), 1), (FlattenedIndexKey(1), 2)], 2)
    assert rule_of(Box).unflatten(1, (7,)).content == (7,)
    assert rule_of(int) is None


def test_registering_twice_or_what_is_no_class_raises():
    for kind in (Box, dict, Point):
        with pytest.raises(TreeError, match=f"{kind.__name__} is a pytree node already"):
            register(kind, list, tuple)
    with pytest.raises(TreeError, match="only a class can be registered"):
        register(Box(1), list, tuple)


def test_registering_and_flat_trees_do_not_load_optree():
    code = """
import sys
from fgrad import tree_util
from fgrad.core import trees
class A: pass
tree_util.register_pytree_node(A, lambda a: ((), None), lambda _, c: A())
trees.tree_map(lambda x: x, (1, 2)), trees.flatten([1.0]), trees.tuple_def([trees.LEAF])
assert trees.flatten_axes(0, (1, 2)) == [0, 0]
assert "optree" not in sys.modules
assert trees.leaves((1, A())) == [1], "registered before optree was loaded"
assert "optree" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
