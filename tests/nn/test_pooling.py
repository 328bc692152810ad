import itertools

import ml_dtypes
import numpy as np
import pytest

import fgrad.nn as nn

RNG = np.random.default_rng(0)


def windows(length, k, s, p, d=1, ceil=False):
    """The indices that each window along an axis covers, padding (outside [0, length)) included."""
    reach = d * (k - 1) + 1
    starts = [-p]
    while starts[-1] + s + reach <= length + p:
        starts.append(starts[-1] + s)
    # One more window may hang over the end, unless it would see nothing but padding.
    if ceil and starts[-1] + reach < length + p and starts[-1] + s < length:
        starts.append(starts[-1] + s)
    return [[start + d * i for i in range(k)] for start in starts]


def reference(x, reduce, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    rank = x.ndim - 2
    kernel, padding, dilation = (
        (v,) * rank if isinstance(v, int) else v for v in (kernel, padding, dilation)
    )
    stride = kernel if stride is None else (stride,) * rank if isinstance(stride, int) else stride
    axes = [
        windows(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    y = np.zeros((*x.shape[:2], *map(len, axes)))
    for at in itertools.product(*(range(len(axis)) for axis in axes)):
        indices = [axis[i] for axis, i in zip(axes, at, strict=True)]
        kept = [
            [i for i in index if 0 <= i < n] for index, n in zip(indices, x.shape[2:], strict=True)
        ]
        counted = [
            [i for i in index if i < n + p]
            for index, n, p in zip(indices, x.shape[2:], padding, strict=True)
        ]
        patch = x[(slice(None), slice(None), *np.ix_(*kept))]
        count = np.prod([len(c) for c in counted])
        y[(slice(None), slice(None), *at)] = reduce(patch.reshape(*x.shape[:2], -1), count)
    return y


def largest(patch, _count):
    return patch.max(-1)


def mean_with_padding(patch, count):
    return patch.sum(-1) / count


def mean_without_padding(patch, _count):
    return patch.mean(-1)


CASES = {
    "one axis": ((2, 3, 9), {"kernel_size": 2}),
    "two axes": ((1, 2, 7, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    "three axes": ((1, 1, 4, 5, 4), {"kernel_size": 2, "stride": 2}),
    "overlap": ((1, 2, 6, 6), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "ceil": ((1, 2, 6, 5), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil and padding": (
        (1, 1, 7, 8),
        {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_follow_the_definition(name):
    shape, options = CASES[name]
    x = RNG.normal(size=shape)
    given = {"kernel" if k == "kernel_size" else k: v for k, v in options.items()}
    np.testing.assert_array_equal(
        np.asarray(nn.max_pool(x, **options)), reference(x, largest, **given)
    )
    np.testing.assert_allclose(
        np.asarray(nn.avg_pool(x, **options)),
        reference(x, mean_with_padding, **given),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        np.asarray(nn.avg_pool(x, **options, count_include_pad=False)),
        reference(x, mean_without_padding, **given),
        rtol=1e-12,
    )


def test_max_pool_takes_dilation():
    x = RNG.normal(size=(1, 2, 8, 7))
    options = {"stride": 1, "padding": 1, "dilation": (2, 3)}
    np.testing.assert_array_equal(
        np.asarray(nn.max_pool(x, (3, 2), **options)), reference(x, largest, (3, 2), **options)
    )


def test_the_divisor_can_be_given():
    x = np.ones((1, 1, 4))
    np.testing.assert_array_equal(np.asarray(nn.avg_pool(x, 2, divisor_override=8)), 0.25)


@pytest.mark.parametrize("name", ["one axis", "two axes", "overlap", "ceil"])
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_derivatives_match_differences(name, pool, check_gradient):
    shape, options = CASES[name]
    # Distinct values, further apart than the differences reach.
    x = RNG.permutation(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape) / 10
    check_gradient(lambda x: getattr(nn, pool)(x, **options), x, rtol=1e-7)


def test_the_padding_of_max_pool_never_wins():
    x = -np.ones((1, 1, 4))
    np.testing.assert_array_equal(np.asarray(nn.max_pool(x, 2, 2, padding=1)), -1.0)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_the_dtype_is_kept(pool, dtype):
    assert getattr(nn, pool)(np.ones((1, 1, 4), dtype), 2).dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.max_pool(np.ones((1, 4)), 2), "with 0 spatial axes"),
        (lambda: nn.avg_pool(np.ones((1, 1, 3)), 4), "a window of 4 does not fit"),
        (lambda: nn.max_pool(np.ones((1, 1, 8)), 3, padding=2), "at most half of kernel_size"),
        (lambda: nn.max_pool(np.ones((1, 1, 8)), (2, 2)), "each of the 1 spatial axes"),
        (lambda: nn.avg_pool(np.ones((1, 1, 8)), 2, divisor_override=0), "must not be 0"),
        (lambda: nn.avg_pool(np.ones((1, 1, 8), np.int32), 2), "needs a float array, got int32"),
    ],
)
def test_what_does_not_fit_is_an_error(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
