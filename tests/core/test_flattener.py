"""Functions generated to take trees apart do what the general code does."""

from collections import OrderedDict, namedtuple

import pytest

from fgrad.core import trees
from fgrad.core.flattener import flattener

Point = namedtuple("Point", ["x", "y"])
TREES = [
    1,
    (1, 2),
    [],
    {},
    None,
    {"b": 1, "a": [2, (3, None)], "c": {}},
    ({3: 1, -1: 2}, Point([1], {"k": 2})),
    [[[[1]]], ((2,),)],
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_leaves_come_in_the_order_of_trees(tree):
    flatten = flattener(tree)
    assert flatten(tree) == trees.leaves(tree)
    for other in TREES:
        if trees.structure(other) != trees.structure(tree):
            found = flatten(other)  # what stands where leaves were is not looked at
            assert found != trees.leaves(other) or not found


def test_only_the_same_classes_and_keys_are_alike():
    flatten = flattener({"a": (1, 2)})
    assert flatten({"a": (3, 4)}) == [3, 4]
    for other in ({"a": [1, 2]}, {"b": (1, 2)}, {"a": (1, 2), "b": 1}, OrderedDict(a=(1, 2)),
                  {"a": (1,)}, {"a": Point(1, 2)}, [("a", (1, 2))]):  # fmt: skip
        assert flatten(other) is None


def test_other_nodes_are_left_to_general_code():
    assert flattener(OrderedDict(a=1)) is None
    assert flattener([OrderedDict(a=1)]) is None
    assert flattener([[1] * 10, [[2]] * 20_000]) is None
