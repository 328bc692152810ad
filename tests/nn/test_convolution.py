import itertools

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)


def tuples(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def reference_conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """One output element at a time."""
    rank = weight.ndim - 2
    stride, padding, dilation = (tuples(v, rank) for v in (stride, padding, dilation))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    kernel = weight.shape[2:]
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    out, inner = weight.shape[:2]
    y = np.zeros((x.shape[0], out, *sizes))
    for o, *at in itertools.product(range(out), *map(range, sizes)):
        first = o // (out // groups) * inner
        window = tuple(
            slice(a * s, a * s + d * (k - 1) + 1, d)
            for a, s, d, k in zip(at, stride, dilation, kernel, strict=True)
        )
        patch = x[(slice(None), slice(first, first + inner), *window)]
        y[(slice(None), o, *at)] = (patch * weight[o]).reshape(x.shape[0], -1).sum(1)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


CASES = {
    "one axis": ((2, 3, 9), (4, 3, 3), {"stride": 2, "padding": 1}),
    "two axes": ((2, 3, 6, 5), (4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "three axes": ((1, 2, 4, 4, 3), (2, 2, 2, 2, 2), {"padding": 1}),
    "dilation": ((1, 2, 8, 7), (2, 2, 3, 2), {"dilation": (2, 3), "padding": 2}),
    "groups": ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    "depthwise": ((1, 3, 5, 5), (6, 1, 2, 2), {"groups": 3, "stride": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_values_follow_the_definition(name):
    x_shape, w_shape, options = CASES[name]
    x, weight, bias = (RNG.normal(size=s) for s in (x_shape, w_shape, w_shape[:1]))
    np.testing.assert_allclose(
        np.asarray(nn.conv(x, weight, bias, **options)),
        reference_conv(x, weight, bias, **options),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (4, 1), (2, 3), (1, 1)])
def test_same_padding_keeps_the_size_and_puts_the_odd_zero_right(kernel, dilation):
    x, weight = RNG.normal(size=(1, 2, 9)), RNG.normal(size=(3, 2, kernel))
    total = dilation * (kernel - 1)
    padded = np.pad(x, [(0, 0), (0, 0), (total // 2, total - total // 2)])
    y = nn.conv(x, weight, padding="same", dilation=dilation)
    assert y.shape == (1, 3, 9)
    np.testing.assert_allclose(
        np.asarray(y), reference_conv(padded, weight, dilation=dilation), rtol=1e-11, atol=1e-13
    )


def test_valid_padding_is_none():
    x, weight = RNG.normal(size=(1, 2, 5)), RNG.normal(size=(1, 2, 2))
    np.testing.assert_array_equal(
        np.asarray(nn.conv(x, weight, padding="valid")), np.asarray(nn.conv(x, weight))
    )


@pytest.mark.parametrize("name", ["one axis", "groups"])
def test_derivatives_match_differences(name, check_gradient):
    x_shape, w_shape, options = CASES[name]
    x, weight = RNG.normal(size=(1, *x_shape[1:])), RNG.normal(size=w_shape)
    check_gradient(lambda x, w: nn.conv(x, w, **options), x, weight)


TRANSPOSED = {
    "one axis": ((2, 3, 4), (3, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "two axes": ((1, 2, 3, 4), (2, 3, 2, 3), {"stride": (2, 3), "padding": (0, 1)}),
    "dilation": ((1, 2, 4, 3), (2, 1, 2, 3), {"dilation": (3, 2), "padding": 1}),
    "groups": ((1, 4, 3, 3), (4, 3, 2, 2), {"groups": 2, "stride": 2}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose_is_the_transpose_of_conv(name):
    x_shape, w_shape, options = TRANSPOSED[name]
    x, weight = RNG.normal(size=x_shape), RNG.normal(size=w_shape)
    y = nn.conv_transpose(x, weight, **options)
    forward = {k: v for k, v in options.items() if k != "output_padding"}
    # conv with this weight maps the shape of y to that of x.
    z, pullback = fg.vjp(lambda z: nn.conv(z, weight, **forward), np.zeros(y.shape))
    assert z.shape == x.shape
    (expected,) = pullback(fg.numpy.asarray(x))
    np.testing.assert_allclose(np.asarray(y), np.asarray(expected), rtol=1e-11, atol=1e-12)


def test_conv_transpose_adds_its_bias():
    x, weight = RNG.normal(size=(1, 2, 3)), RNG.normal(size=(2, 3, 2))
    difference = nn.conv_transpose(x, weight, np.arange(3.0)) - nn.conv_transpose(x, weight)
    np.testing.assert_allclose(np.asarray(difference)[0, :, 0], [0, 1, 2], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_dtype_is_kept(dtype):
    x, weight = np.ones((1, 2, 4), dtype), np.ones((3, 2, 2), dtype)
    assert nn.conv(x, weight, np.ones(3, dtype)).dtype == dtype
    assert nn.conv_transpose(x, np.ones((2, 3, 2), dtype)).dtype == dtype


ONES = np.ones((1, 4, 6, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.conv(ONES, np.ones((2, 3, 3, 3))),
            r"must have in = 3 .*got x \[1, 4, 6, 6\], ",
        ),
        (lambda: nn.conv(ONES, np.ones((3, 2, 3, 3)), groups=2), "groups dividing out"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3))), "with 1 spatial axes"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), np.ones(3)), r"bias must be \[2\], got \[3"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), stride=0), "stride must be .* at least 1"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), stride=(1, 1, 1)), "2 spatial axes"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), padding=-1), "padding must be .* least 0"),
        (lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), padding="full"), "got 'full'"),
        (
            lambda: nn.conv(ONES, np.ones((2, 4, 3, 3)), stride=2, padding="same"),
            "padding='same' needs stride 1",
        ),
        (lambda: nn.conv(ONES, np.ones((2, 4, 7, 7))), "reaches over 7 elements"),
        (lambda: nn.conv_transpose(ONES, np.ones((3, 2, 3, 3))), "groups dividing in"),
        (
            lambda: nn.conv_transpose(ONES, np.ones((4, 2, 3, 3)), output_padding=1),
            "output_padding .* must be below",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
