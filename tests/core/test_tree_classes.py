import dataclasses
import functools
import pickle

import pytest

from fgrad.core import trees
from fgrad.core.errors import TreeError
from fgrad.core.tree_classes import (
    Partial,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
    static_field,
)
from fgrad.core.tree_registry import DictKey, GetAttrKey, keystr


def paths(tree):
    return [keystr(path) for path, _ in trees.flatten_with_path(tree)[0]]


@register_dataclass
@dataclasses.dataclass
class Linear:
    w: float
    b: float | None
    name: str = dataclasses.field(default="", metadata={"static": True})


def test_a_dataclass_has_children_static_parts_and_paths():
    layer = Linear(1.0, 2.0, "first")
    leaves, treedef = trees.flatten(layer)
    assert leaves == [1.0, 2.0]
    assert treedef.unflatten([3.0, 4.0]) == Linear(3.0, 4.0, "first")
    assert treedef != trees.structure(Linear(1.0, 2.0, "second"))
    assert paths([layer]) == ["[0].w", "[0].b"]
    assert trees.leaves(Linear(1.0, None)) == [1.0]
    with pytest.raises(TreeError, match=r"at \[0\]: expected .*'first'.*got Linear .*'second'"):
        trees.tree_map(max, [layer], [Linear(1.0, 2.0, "second")])


def test_a_static_field():
    @register_dataclass
    @dataclasses.dataclass
    class Op:
        x: int
        op: str = static_field(default="add", metadata={"doc": "which"})

    assert trees.leaves(Op(1)) == [1]
    assert trees.tree_map(lambda x: x + 1, Op(1, "mul")) == Op(2, "mul")
    assert dataclasses.fields(Op)[1].metadata["doc"] == "which"


def test_a_dataclass_with_named_and_dropped_fields():
    @functools.partial(
        register_dataclass, data_fields=["x"], meta_fields=["mode"], drop_fields=["cache"]
    )
    @dataclasses.dataclass
    class State:
        mode: str
        x: int
        cache: object = None

    state = State("m", 1, "cached")
    assert trees.tree_map(lambda x: x + 1, state) == State("m", 2, None)


def test_a_decorator_with_arguments():
    @register_dataclass(data_fields=["x"], meta_fields=[])
    @dataclasses.dataclass
    class Single:
        x: int

    assert trees.leaves(Single(3)) == [3]


def test_dataclass_fields_are_checked():
    @dataclasses.dataclass
    class Pair:
        x: int
        y: int
        z: int = dataclasses.field(init=False, default=0)

    for data, meta in (["x"], []), (["x", "y", "u"], []), (["x", "y"], ["y"]), (["x", "y"], ["z"]):
        with pytest.raises(TreeError, match=r"must name each init field of .*Pair once"):
            register_dataclass(Pair, data, meta)
    with pytest.raises(TreeError, match="both data_fields and meta_fields"):
        register_dataclass(Pair, ["x", "y"])
    with pytest.raises(TreeError, match="needs a dataclass"):
        register_dataclass(int)
    with pytest.raises(TreeError, match="needs a dataclass"):
        register_dataclass(Pair(1, 2))
    register_dataclass(Pair, ["y"], ["x"])
    assert trees.leaves(Pair(1, 2)) == [2]
    with pytest.raises(TreeError, match="Pair is a pytree node already"):
        register_dataclass(Pair)


def test_a_class_registers_by_its_methods():
    @register_pytree_node_class
    class Box:
        def __init__(self, content, label):
            self.content, self.label = content, label

        def tree_flatten(self):
            return (self.content,), self.label

        @classmethod
        def tree_unflatten(cls, label, children):
            return cls(*children, label)

    box = trees.tree_map(lambda x: x + 1, Box([1, 2], "label"))
    assert (box.content, box.label) == ([2, 3], "label")
    assert paths(Box([1], "label")) == ["[<flat index 0>][0]"]


def test_a_class_registers_by_its_methods_with_keys():
    @register_pytree_with_keys_class
    class Named:
        def __init__(self, x):
            self.x = x

        def tree_flatten_with_keys(self):
            return [(GetAttrKey("x"), self.x)], None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    assert paths((Named(1),)) == ["[0].x"]
    assert trees.tree_map(lambda x: -x, Named(1)).x == -1


def test_missing_methods_are_named():
    with pytest.raises(TreeError, match="Bare needs tree_flatten and tree_unflatten"):
        register_pytree_node_class(type("Bare", (), {}))


def test_registration_by_functions():
    class Table:
        def __init__(self, **entries):
            self.entries = entries

    def with_keys(table):
        return [(DictKey(k), v) for k, v in table.entries.items()], tuple(table.entries)

    register_pytree_with_keys(
        Table, with_keys, lambda keys, children: Table(**dict(zip(keys, children, strict=True)))
    )
    assert paths(Table(b=1, a=2)) == ["['b']", "['a']"]
    assert trees.tree_map(lambda x: x * 2, Table(b=1, a=2)).entries == {"b": 2, "a": 4}

    class Wrapped:
        def __init__(self, x):
            self.x = x

    register_pytree_node(
        Wrapped,
        lambda w: ((w.x,), None),
        lambda _, c: Wrapped(*c),
        lambda w: (((GetAttrKey("x"), w.x),), None),
    )
    assert paths(Wrapped([1])) == [".x[0]"]


def test_a_static_class_is_all_structure():
    @register_static
    @dataclasses.dataclass(frozen=True)
    class Mode:
        name: str

    leaves, treedef = trees.flatten((Mode("train"), 1))
    assert leaves == [1]
    assert treedef.unflatten([2]) == (Mode("train"), 2)
    assert treedef != trees.structure((Mode("test"), 1))


def test_a_partial_binds_leaves():
    affine = Partial(lambda w, x, *, b: w * x + b, 2.0, b=1.0)
    assert affine(3.0) == 7.0
    assert trees.leaves(affine) == [2.0, 1.0]
    assert paths(affine) == [".args[0]", ".keywords['b']"]
    assert trees.tree_map(lambda v: 10 * v, affine)(3.0) == 70.0
    assert isinstance(affine, functools.partial)


def test_a_partial_of_a_partial_keeps_the_inner_leaves():
    inner = Partial(max, 1)
    assert trees.leaves(Partial(inner, 2)) == [1, 2]
    assert Partial(inner, 2)(0) == 2
    assert trees.leaves(Partial(Partial(dict, a=1, b=2), b=3)) == [1, 3]


def test_a_partial_of_a_plain_partial_keeps_its_arguments_static():
    plain = functools.partial(max, 5)
    bound = Partial(plain, 2)
    assert trees.leaves(bound) == [2]
    assert bound(3) == 5
    assert trees.structure(bound) == trees.structure(Partial(plain, 7))
    assert hash(trees.structure(bound)) == hash(trees.structure(Partial(plain, 7)))
    assert trees.structure(bound) != trees.structure(Partial(functools.partial(max, 6), 7))
    assert "max" in repr(bound)


def test_a_partial_survives_pickling():
    copy = pickle.loads(pickle.dumps(Partial(max, 1, 2)))
    assert type(copy) is Partial
    assert copy(0) == 2
