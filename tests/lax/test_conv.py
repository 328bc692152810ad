import numpy as np
import pytest

from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.lax import conv_eager
from fgrad.lax.conv import conv_dimension_numbers, conv_general_dilated, conv_general_dilated_p
from fgrad.lax.conv_forms import conv, conv_transpose, conv_with_general_padding
from tests.lax.against_jax import check

CASES = conv_general_dilated_p.spec.cases


def _arguments(case, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    sizes = {}
    out = []
    for part in case.shapes.split(","):
        shape = [
            int(n) if n.isdigit() else sizes.setdefault(n, 2 + len(sizes)) for n in part.split()
        ]
        x = rng.normal(size=shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * rng.normal(size=shape)
        out.append((3 * x).astype(dtype) if np.dtype(dtype).kind in "iu" else x.astype(dtype))
    return out


def _call(x, w, params):
    return conv_general_dilated(x, w, **params)


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int32"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_value_is_that_of_the_definition(case, dtype, block, monkeypatch):
    monkeypatch.setattr(conv_eager, "BLOCK", block)
    args = _arguments(case, dtype)
    out = _call(*args, case.params)._data
    expected = conv_general_dilated_p.spec.reference(*args, **case.params)
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_transform_agrees_with_jax(case):
    from jax import lax

    p = dict(case.params)
    numbers = lax.ConvDimensionNumbers(*p.pop("dimension_numbers"))
    check(
        lambda x, w: _call(x, w, case.params),
        lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=numbers, **p),
        _arguments(case),
    )


@pytest.mark.peers
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_named_padding_agrees_with_jax(padding, stride, dilation):
    from jax import lax

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 7, 8)), rng.normal(size=(4, 3, 3, 2))
    args = ((stride, 1), padding, None, (dilation, 1))
    check(
        lambda x, w: conv_general_dilated(x, w, *args),
        lambda x, w: lax.conv_general_dilated(x, w, *args),
        (x, w), order=1, batch=False,
    )  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("dilation", [None, (2, 1)])
def test_conv_transpose_agrees_with_jax(padding, strides, transpose_kernel, dilation):
    from jax import lax

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3, 2))
    w = rng.normal(size=(3, 2, 5, 2) if transpose_kernel else (3, 2, 2, 5))
    args = (strides, padding, dilation, None, transpose_kernel)
    check(
        lambda x, w: conv_transpose(x, w, *args),
        lambda x, w: lax.conv_transpose(x, w, *args),
        (x, w), order=1, batch=False,
    )  # fmt: skip


def test_helpers_are_the_general_convolution():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 7)), rng.normal(size=(4, 3, 3))
    general = conv_general_dilated(x, w, (2,), "SAME")._data
    np.testing.assert_array_equal(conv(x, w, (2,), "SAME")._data, general)
    padded = conv_general_dilated(x, w, (1,), [(1, 0)], (2,), (2,))._data
    np.testing.assert_array_equal(
        conv_with_general_padding(x, w, (1,), [(1, 0)], (2,), (2,))._data, padded
    )


def test_small_floats_are_summed_in_float32_and_rounded_once():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 8, 6, 6)).astype(bfloat16), rng.normal(size=(4, 8, 3, 3))
    w = w.astype(bfloat16)
    out = conv(x, w, (1, 1), "SAME")._data
    wide = conv(x.astype("f4"), w.astype("f4"), (1, 1), "SAME")._data
    assert out.dtype == np.dtype(bfloat16)
    np.testing.assert_array_equal(out, wide.astype(bfloat16))
    kept = conv(x, w, (1, 1), "SAME", preferred_element_type="float32")._data
    np.testing.assert_array_equal(kept, wide)


@pytest.mark.parametrize("strides", ["transposed", "negative", "broadcast"])
def test_layouts(strides):
    rng = np.random.default_rng(0)
    x = {
        "transposed": rng.normal(size=(5, 6, 3, 2)).transpose(3, 2, 1, 0),
        "negative": rng.normal(size=(2, 3, 6, 5))[:, ::-1, ::-1],
        "broadcast": np.broadcast_to(rng.normal(size=(3, 1, 5)), (2, 3, 6, 5)),
    }[strides]
    w = rng.normal(size=(4, 3, 2, 3))
    out = conv(x, w, (1, 2), "SAME")._data
    expected = conv(np.ascontiguousarray(x), w, (1, 2), "SAME")._data
    np.testing.assert_allclose(out, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "w", "shape"),
    [
        ((0, 2, 4), (3, 2, 2), (0, 3, 3)),
        ((1, 2, 1), (3, 2, 2), (1, 3, 0)),
        ((1, 0, 4), (3, 0, 2), (1, 3, 3)),
        ((1, 2, 4), (0, 2, 2), (1, 0, 3)),
    ],
)
def test_empty_operands(x, w, shape):
    out = conv(np.ones(x, np.float32), np.ones(w, np.float32), (1,), "VALID")._data
    np.testing.assert_array_equal(out, np.zeros(shape, np.float32))


@pytest.mark.parametrize("invalid", conv_general_dilated_p.spec.invalid, ids=lambda i: i.match)
def test_invalid_operands(invalid):
    names = {"f32": np.float32, "f64": np.float64}
    args = [np.ones([int(n) for n in t[4:-1].split(",")], names[t[:3]]) for t in invalid.types]
    with pytest.raises(invalid.error, match=invalid.match):
        conv_general_dilated(*args, **invalid.params)


def test_layout_strings_are_checked():
    with pytest.raises(ShapeError, match="layout"):
        conv_dimension_numbers((1, 2, 3), (1, 2, 3), ("NCH", "OIW", "NCH"))
    with pytest.raises(ShapeError, match="one rank"):
        conv_dimension_numbers((1, 2, 3), (1, 2), None)
    with pytest.raises(ShapeError, match="padding"):
        conv(np.ones((1, 1, 3)), np.ones((1, 1, 3)), (1,), "FULL")
    with pytest.raises(ShapeError, match="conv_transpose"):
        conv_general_dilated(np.ones((1, 1, 3)), np.ones((1, 1, 3)), (1,), "SAME", (2,))
    with pytest.raises(DtypeError, match="numbers"):
        conv(np.ones((1, 1, 3), bool), np.ones((1, 1, 3), bool), (1,), "SAME")
