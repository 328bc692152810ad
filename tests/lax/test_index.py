import pickle

import pytest

from fgrad.core.config import out_of_bounds
from fgrad.core.errors import ShapeError
from fgrad.lax import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers


def test_dimension_numbers_compare_and_hash_by_contents():
    a, b = GatherDimensionNumbers((1,), [0], (0,)), GatherDimensionNumbers([1], (0,), (0,))
    assert a == b
    assert hash(a) == hash(b)
    assert a != GatherDimensionNumbers((1,), (0,), (1,))
    assert a != a.as_scatter()
    assert pickle.loads(pickle.dumps(a)) == a
    assert "offset_dims=(1,)" in repr(a)


def test_gather_and_scatter_mirror_each_other():
    n = ScatterDimensionNumbers((2,), (1,), (1,), (0,), (0,))
    assert n.as_gather().as_scatter() == n


def test_modes_have_names_and_a_default_of_the_config():
    mode = GatherScatterMode
    assert mode.from_any("fill") is mode.from_any("drop") is mode.FILL_OR_DROP
    assert mode.from_any("clip") is mode.CLIP
    assert mode.from_any(None) is mode.RAISE
    with out_of_bounds("jax"):
        assert mode.from_any(None) is mode.FILL_OR_DROP
    with pytest.raises(ShapeError, match="clip"):
        mode.from_any("wrap")
