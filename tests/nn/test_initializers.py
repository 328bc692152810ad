import math

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn


def key():
    return fg.random.key(0)


SHAPE = (60, 80)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "init",
    [
        nn.initializers.zeros,
        nn.initializers.ones,
        nn.initializers.constant(0.5),
        nn.initializers.uniform(),
        nn.initializers.normal(),
        nn.initializers.truncated_normal(),
        nn.initializers.glorot_uniform(),
        nn.initializers.he_normal(),
        nn.initializers.lecun_normal(),
    ],
)
def test_shape_and_dtype_are_those_asked_for(init, dtype):
    x = init(key(), (3, 4), dtype)
    assert x.shape == (3, 4)
    assert x.dtype == dtype


def test_the_dtype_of_the_factory_is_the_default():
    assert nn.initializers.normal(dtype=np.float16)(key(), (3,)).dtype == np.float16


def test_constants_are_constant():
    assert (np.asarray(nn.initializers.zeros(key(), (3,))) == 0).all()
    assert (np.asarray(nn.initializers.ones(key(), (3,))) == 1).all()
    assert (np.asarray(nn.initializers.constant(0.25)(key(), (3,))) == 0.25).all()


def test_uniform_fills_its_interval():
    x = np.asarray(nn.initializers.uniform(2.0)(key(), SHAPE))
    assert 0 <= x.min() < 0.01
    assert 1.99 < x.max() < 2


def test_truncated_normal_is_cut_off():
    x = np.asarray(nn.initializers.truncated_normal(3.0, lower=-1.0, upper=2.0)(key(), SHAPE))
    assert -3 <= x.min() < -2.9
    assert 5.8 < x.max() <= 6


FAN_IN, FAN_OUT = SHAPE
VARIANCES = {
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "he_uniform": 2 / FAN_IN,
    "he_normal": 2 / FAN_IN,
    "kaiming_uniform": 2 / FAN_IN,
    "kaiming_normal": 2 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_named_initialisers_have_their_variance(name):
    x = np.asarray(getattr(nn.initializers, name)()(key(), SHAPE))
    # 4,800 samples: the variance of a normal one is within 5 sigma = 10 %.
    np.testing.assert_allclose(x.var(), VARIANCES[name], rtol=0.1)
    assert abs(x.mean()) < 5 * math.sqrt(VARIANCES[name] / x.size)
    bound = math.sqrt(VARIANCES[name]) * (math.sqrt(3) if "uniform" in name else 2 / 0.8796)
    assert np.abs(x).max() <= bound


@pytest.mark.parametrize(
    ("mode", "count"),
    [
        ("fan_in", 4 * 9),
        ("fan_out", 8 * 9),
        ("fan_avg", 6 * 9),
        ("fan_geo_avg", math.sqrt(32) * 9),
    ],
)
def test_fans_count_the_receptive_field(mode, count):
    init = nn.initializers.variance_scaling(2.0, mode, "uniform", in_axis=1, out_axis=0)
    x = np.asarray(init(key(), (8, 4, 3, 3)))
    bound = math.sqrt(3 * 2 / count)
    assert 0.95 * bound < np.abs(x).max() <= bound


def test_batch_axes_do_not_count():
    assert nn.initializers.compute_fans((5, 3, 4), batch_axis=0) == (3, 4)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (2, 3, 5)])
@pytest.mark.parametrize("column_axis", [-1, 0])
def test_orthogonal_has_orthonormal_columns_or_rows(shape, column_axis):
    q = np.asarray(nn.initializers.orthogonal(2.0, column_axis, np.float64)(key(), shape))
    assert q.shape == shape
    matrix = np.moveaxis(q, column_axis, 0).reshape(shape[column_axis], -1) / 2
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)


def test_orthogonal_matrices_are_not_biased_to_one_sign():
    init = nn.initializers.orthogonal()
    diagonal = [float(init(fg.random.key(seed), (2, 2))[0, 0]) for seed in range(40)]
    assert 8 < sum(d > 0 for d in diagonal) < 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.initializers.he_normal()(key(), (3,)), r"at least two axes, got shape \[3\]"),
        (lambda: nn.initializers.orthogonal()(key(), (3,)), r"at least two axes, got shape \[3\]"),
        (lambda: nn.initializers.variance_scaling(1.0, "fan", "normal"), "got 'fan'"),
        (lambda: nn.initializers.variance_scaling(1.0, "fan_in", "cauchy"), "got 'cauchy'"),
    ],
)
def test_impossible_requests_are_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.peers
@pytest.mark.parametrize(
    "name",
    [
        "uniform",
        "normal",
        "truncated_normal",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
        "orthogonal",
    ],
)
def test_same_key_gives_the_numbers_of_jax(name):
    jax = pytest.importorskip("jax")
    ours = getattr(nn.initializers, name)()(fg.random.key(7), (5, 3), np.float32)
    theirs = getattr(jax.nn.initializers, name)()(jax.random.key(7), (5, 3), np.float32)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [nn.initializers.zeros, nn.initializers.ones, nn.initializers.constant(2.0),
     nn.initializers.uniform(), nn.initializers.normal(), nn.initializers.truncated_normal(),
     nn.initializers.orthogonal(), nn.initializers.glorot_normal(),
     lambda k, _shape: nn.Linear(k, 2, 2).weight, lambda k, _shape: nn.Embedding(k, 2, 2).weight,
     lambda _k, _shape: nn.LayerNorm(2).weight, lambda _k, _shape: nn.one_hot(np.arange(2), 2)],
)  # fmt: skip
def test_the_dtype_is_the_default_float(make):
    assert make(fg.random.key(0), (2, 2)).dtype == np.float32
    with fg.enable_x64():
        assert make(fg.random.key(0), (2, 2)).dtype == np.float64
