import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import DtypeError, ShapeError, StaticArgumentError
from tests.lax.values import bare


def test_python_types_mean_default_dtypes_and_the_result_is_strong():
    assert lax.convert_element_type(np.array([1, 2]), float).dtype == np.float32
    assert lax.convert_element_type(np.array([1.5]), int).dtype == np.int32
    assert not lax.convert_element_type(2.0, np.float32).weak_type


def test_casts_of_floats_to_integers_clamp():
    x = np.array([1.9, -1.9, 1e30, -1e30, np.nan])
    assert bare(lax.convert_element_type(x, np.int8)).tolist() == [1, -1, 127, -128, 0]


def test_stop_gradient_takes_every_dtype_and_every_tree():
    tree = {"a": np.arange(3), "b": (np.ones(2, bfloat16), 2.0)}
    out = lax.stop_gradient(tree)
    assert bare(out["a"]).tolist() == [0, 1, 2]
    assert out["b"][0].dtype == bfloat16
    assert float(bare(out["b"][1])) == 2.0


def test_stop_gradient_is_a_constant_to_every_transform():
    def f(x):
        return lax.mul(lax.stop_gradient(x), x)

    x = np.float64(3)
    assert float(bare(fg.grad(f)(x))) == 3.0
    assert float(bare(fg.jvp(f, (x,), (x,))[1])) == 9.0
    assert float(bare(fg.grad(fg.grad(f))(x))) == 0.0


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_reduce_precision_equals_a_cast_there_and_back(dtype):
    bits = {np.float16: (5, 10), bfloat16: (8, 7)}[dtype]
    rng = np.random.default_rng(0)
    x = (rng.normal(size=500) * 10.0 ** rng.integers(-4, 4, 500)).astype(np.float32)
    x = np.concatenate([x, np.float32([np.inf, -np.inf, 0, -0.0, 1e38, 65519, 65520])])
    with np.errstate(over="ignore"):
        expected = x.astype(dtype).astype(np.float32)
    # What float16 holds as subnormal numbers becomes 0.
    tiny = np.abs(x) < (2.0**-14 if dtype is np.float16 else 0)
    expected[tiny] = np.copysign(0, x[tiny])
    np.testing.assert_array_equal(bare(lax.reduce_precision(x, *bits)), expected)
    assert np.isnan(bare(lax.reduce_precision(np.float32(np.nan), *bits)))


def test_reduce_precision_rounds_cotangents_too():
    _, pull = fg.vjp(lambda x: lax.reduce_precision(x, 8, 7), np.float32(1.01))
    assert float(bare(pull(np.float32(1.01))[0])) == 1.0078125


def test_reduce_precision_refuses_what_it_cannot_keep():
    with pytest.raises(StaticArgumentError, match="exponent_bits of at least 1"):
        lax.reduce_precision(np.float32(1), 0, 3)
    with pytest.raises(DtypeError, match="reduce_precision takes"):
        lax.reduce_precision(np.complex64(1), 8, 7)


def test_bitcast_to_each_width_and_back():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]
    assert bare(lax.bitcast_convert_type(x, np.int32)).tolist() == x.view(np.int32).tolist()
    parts = lax.bitcast_convert_type(x, np.uint8)
    assert parts.shape == (2, 3, 4)
    assert bare(lax.bitcast_convert_type(parts, np.float32)).tolist() == x.tolist()


def test_bitcast_under_vmap_maps_any_axis():
    x = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    out = fg.vmap(lambda v: lax.bitcast_convert_type(v, np.uint16), in_axes=2)(x)
    expected = np.ascontiguousarray(x.transpose(2, 0, 1)).view(np.uint16)[..., 0]
    assert bare(out).tolist() == expected.tolist()


def test_bitcast_says_which_length_the_last_axis_needs():
    with pytest.raises(ShapeError, match="4 elements of uint8 make one of float32"):
        lax.bitcast_convert_type(np.zeros((2, 3), np.uint8), np.float32)
    with pytest.raises(DtypeError, match="float and integer"):
        lax.bitcast_convert_type(np.array([True]), np.uint8)
