import copy
import pickle

import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn
from fgrad import tree_util


class Affine(nn.Module):
    power: int = nn.static()

    def __init__(self, slope, offset, power=1):
        self.power = power
        self.slope, self.offset = slope, offset

    def __call__(self, x):
        return self.slope * x**self.power + self.offset


class Scaled(Affine):
    name: str = nn.static()

    def __init__(self, inner, name):
        super().__init__(np.float64(2.0), None, 3)
        self.name = name
        self.parts = {"inner": inner, "more": [np.ones(2)]}


def model():
    return Scaled(Affine(np.full(3, 2.0), np.zeros(3)), "outer")


def test_arrays_and_modules_are_children():
    assert [np.shape(x) for x in tree_util.tree_leaves(model())] == [(), (3,), (3,), (2,)]


def test_flattening_and_unflattening_give_the_module_back():
    leaves, structure = tree_util.tree_flatten(model())
    rebuilt = tree_util.tree_unflatten(structure, leaves)
    assert isinstance(rebuilt, Scaled)
    assert (rebuilt.name, rebuilt.power, rebuilt.offset) == ("outer", 3, None)
    assert repr(rebuilt) == repr(model())


def test_static_fields_belong_to_the_structure():
    one, two = Affine(np.ones(1), np.ones(1), 1), Affine(np.ones(1), np.ones(1), 2)
    assert tree_util.tree_structure(one) != tree_util.tree_structure(two)


def test_a_tree_of_bools_or_none_can_be_made():
    mask = tree_util.tree_map(lambda x: np.ndim(x) == 1, model())
    assert isinstance(mask, Scaled)
    assert mask.slope is False
    assert mask.parts["inner"].slope is True


def test_modules_pass_through_the_transforms():
    module = Affine(np.full(3, 2.0), np.zeros(3), 2)
    x = np.array([1.0, 2.0, 3.0])

    def loss(m, x):
        return fg.numpy.sum(m(x))

    gradient = fg.jit(fg.grad(loss))(module, x)
    assert isinstance(gradient, Affine)
    np.testing.assert_allclose(np.asarray(gradient.slope), x**2)
    np.testing.assert_allclose(np.asarray(gradient.offset), 1.0)
    batched = fg.vmap(lambda m, x: m(x))(module, x)
    np.testing.assert_allclose(np.asarray(batched), 2 * x**2)


def test_modules_are_immutable():
    module = model()
    with pytest.raises(AttributeError, match=r"Scaled.slope: modules are immutable; use module"):
        module.slope = np.ones(1)
    with pytest.raises(AttributeError, match="immutable"):
        del module.slope


def test_a_module_made_by_unflattening_is_immutable_too():
    module = tree_util.tree_map(lambda x: x, model())
    with pytest.raises(AttributeError, match="immutable"):
        module.slope = np.ones(1)


def test_replace_changes_a_copy():
    module = model()
    changed = module.replace(slope=np.float64(5.0), name="other")
    assert (float(changed.slope), changed.name) == (5.0, "other")
    assert (float(module.slope), module.name) == (2.0, "outer")
    assert changed.parts is module.parts
    assert tree_util.tree_structure(module.replace(slope=np.ones(2))) == tree_util.tree_structure(
        module
    )


def test_replace_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="no attribute gain; it has power, name, slope"):
        model().replace(gain=1.0)


def test_replace_checks_its_values():
    with pytest.raises(TypeError, match=r"Scaled\.slope holds a float"):
        model().replace(slope=1.0)


def test_repr_shows_the_tree():
    assert repr(model()) == (
        "Scaled(\n"
        "  power=3\n"
        "  name='outer'\n"
        "  slope=float64[]\n"
        "  offset=None\n"
        "  parts={\n"
        "    'inner': Affine(\n"
        "      power=1\n"
        "      slope=float64[3]\n"
        "      offset=float64[3]\n"
        "    )\n"
        "    'more': [array([1., 1.])]\n"
        "  }\n"
        ")"
    )


@pytest.mark.parametrize("value", [3, 0.5, "text", len, [np.ones(1), "text"]])
def test_an_attribute_that_is_no_array_must_be_static(value):
    with pytest.raises(TypeError, match=r"Affine.slope holds a .* declare it"):
        Affine(value, None)


def test_a_static_field_must_be_hashable():
    with pytest.raises(TypeError, match=r"Affine.power is static and must be hashable, got a list"):
        Affine(np.ones(1), np.ones(1), [1])


def test_a_static_field_must_be_assigned():
    class Forgetful(nn.Module):
        size: int = nn.static()

        def __init__(self):
            self.weight = np.ones(1)

    with pytest.raises(TypeError, match=r"Forgetful\.size is declared static but"):
        Forgetful()


def test_state_dict_names_each_array():
    state = model().state_dict()
    names = ["slope", "parts.inner.slope", "parts.inner.offset", "parts.more.0"]
    assert list(state) == names


def test_load_state_dict_puts_arrays_in_place():
    state = {name: np.asarray(x) + 1 for name, x in model().state_dict().items()}
    loaded = model().load_state_dict(state)
    assert isinstance(loaded, Scaled)
    assert loaded.name == "outer"
    np.testing.assert_array_equal(loaded.parts["inner"].slope, 3.0)


def test_load_state_dict_refuses_other_names_and_shapes():
    state = model().state_dict()
    renamed = {("gain" if name == "slope" else name): x for name, x in state.items()}
    with pytest.raises(ValueError, match=r"missing \['slope'\], unknown \['gain'\]"):
        model().load_state_dict(renamed)
    with pytest.raises(TypeError, match=r"parts.more.0 is \[2\], got \[5\]"):
        model().load_state_dict({**state, "parts.more.0": np.ones(5)})


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_modules_can_be_copied(duplicate):
    assert repr(duplicate(model())) == repr(model())


def test_layers_can_be_pickled():
    layer = nn.LayerNorm(3)
    loaded = pickle.loads(pickle.dumps(layer))
    assert tree_util.tree_structure(loaded) == tree_util.tree_structure(layer)
