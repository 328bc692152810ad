import pickle
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import register
from fgrad.core.treedef import LEAF, TreeDef, describe, describe_def, tuple_def
from fgrad.core.trees import flatten, structure

Point = namedtuple("Point", "x y")


class Scaled:
    """A node with a static part."""

    def __init__(self, value, scale):
        self.value, self.scale = value, scale

    def __repr__(self):  # without an address: names of tests come from it
        return f"Scaled({self.value}, {self.scale})"


register(Scaled, lambda s: ((s.value,), s.scale), lambda scale, c: Scaled(*c, scale))

TREES = [
    1.0,
    None,
    (),
    [],
    (1,),
    (1, 2, 3, 4, 5),
    [1, 2],
    {},
    {"a": 1},
    {"a": 1, "b": 2},
    Point(1, 2),
    OrderedDict(a=1),
    (None,),
    ((1,),),
    ([1, 2],),
    Scaled(1, 2),
    Scaled(1, 3),
    (1, {"a": [1, None], "b": Point(1, (2, Scaled(3, 4)))}),
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_structures_are_equal_exactly_to_those_of_like_trees(tree):
    leaves, treedef = flatten(tree)
    assert treedef.num_leaves == len(leaves)
    again = structure(treedef.unflatten([object()] * len(leaves)))
    assert again == treedef
    assert hash(again) == hash(treedef)
    assert [structure(other) == treedef for other in TREES].count(True) == 1


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_pickle_children_and_composition_keep_the_one_form(tree):
    treedef = structure(tree)
    assert pickle.loads(pickle.dumps(treedef)) == treedef
    assert tuple_def([treedef, LEAF]) == structure((tree, 0))
    assert tuple_def([treedef, LEAF]).children() == [treedef, LEAF]
    assert structure([0, 0]).compose(treedef) == structure([tree, tree])
    assert treedef.compose(LEAF) == treedef


def test_children_and_type_of_the_root():
    treedef = structure({"a": (1, 2), "b": 3})
    assert treedef.node_type is dict
    assert treedef.children() == [structure((1, 2)), LEAF]
    assert structure([1, 2]).children() == [LEAF, LEAF]
    assert LEAF.children() == []
    assert LEAF.node_type is None
    assert LEAF.is_leaf()
    assert LEAF.is_flat
    assert not treedef.is_leaf()
    assert not treedef.is_flat


def test_unflatten_counts_leaves():
    assert structure((1, [2])).unflatten(iter("ab")) == ("a", ["b"])
    for tree in (1, (1, 2), {"a": 1}):
        with pytest.raises(TreeError, match=r"needs \d leaves for PyTreeDef.*, got 7"):
            structure(tree).unflatten([0] * 7)


def test_flatten_up_to_stops_at_the_leaves_of_the_prefix():
    assert structure((0, {"a": 0})).flatten_up_to(([1, 2], {"a": None})) == [[1, 2], None]
    assert structure((0, 0)).flatten_up_to(("ab", [1])) == ["ab", [1]]
    assert LEAF.flatten_up_to([1]) == [[1]]
    mixed = OrderedDict(b=1, a=2)
    assert structure({"a": 0, "b": 0}).flatten_up_to(mixed) == [2, 1], "matched by key"


@pytest.mark.parametrize(
    ("prefix", "tree", "message"),
    [
        ((1, 2), (1, 2, 3), "at the root: expected tuple of length 2, got tuple of length 3"),
        ([1], (1,), "at the root: expected list of length 1, got tuple of length 1"),
        (
            {"layers": [{"w": 1}]},
            {"layers": [{"v": 1}]},
            r"at \['layers'\]\[0\]: expected dict with keys \['w'\], got dict with keys \['v'\]",
        ),
        (
            {"layers": [[1]]},
            {"layers": [np.zeros((2, 3))]},
            r"at \['layers'\]\[0\]: expected list of length 1, got a leaf of type ndarray and "
            r"shape \(2, 3\)",
        ),
        (Point(1, (2,)), Point(1, 2), r"at \.y: expected tuple of length 1, got a leaf of type i"),
        ((None, 1), (2, 1), r"at \[0\]: expected None, got a leaf of type int"),
        (([1], 1), (None, 1), r"at \[0\]: expected list of length 1, got None"),
        ((Scaled(1, 2),), (Scaled(1, 3),), r"at \[0\]: expected .*Scaled.*, got Scaled with 1 ch"),
        (Point(1, 2), (1, 2), "at the root: expected Point with 2 children, got tuple"),
    ],
)
def test_a_mismatch_names_the_path_and_both_sides(prefix, tree, message):
    with pytest.raises(TreeError, match=r"grads does not match the expected structure; " + message):
        structure(prefix).flatten_up_to(tree, name="grads")


def test_level_of_pairs_children_by_key():
    level = structure({"a": 0, "b": [0]}).level_of(OrderedDict(b="B", a="A"))
    assert [(str(key), child) for key, _, child in level] == [("['a']", "A"), ("['b']", "B")]
    assert [treedef for _, treedef, _ in level] == [LEAF, structure([0])]
    assert structure({"a": 0}).level_of({"a": 0, "b": 0}) is None
    assert structure((None,)).level_of((3,))[0][1:] == (structure(None), 3)
    assert LEAF.level_of((1,)) is None


def test_descriptions():
    assert describe_def(LEAF) == "a leaf"
    assert describe_def(structure({"b": 1, "a": 2})) == "dict with keys ['a', 'b']"
    assert describe(Scaled(1, 9)) == "Scaled with 1 child and static part 9"


def test_text():
    assert repr(LEAF) == "PyTreeDef(*)"
    assert repr(structure((1, 2))) == "PyTreeDef((*, *))"
    assert repr(structure({"a": [None, 1]})) == "PyTreeDef({'a': [None, *]})"
    assert "namespace" not in repr(structure((Scaled(1, 2),)))


def test_a_structure_is_not_equal_to_other_things():
    assert structure(1) != 1
    assert TreeDef(tuple, 2) == structure((1, 2))
