import math

import numpy as np
import pytest

import fgrad as fg
import fgrad.optim as optim

STEPS = range(25)


def linear(n):
    return 2.0 + (0.5 - 2.0) * min(max(n - 3, 0), 10) / 10


def cosine(n, init=2.0, steps=10, alpha=0.1, exponent=1.0):
    wave = 0.5 * (1 + math.cos(math.pi * min(n, steps) / steps))
    return init * ((1 - alpha) * wave**exponent + alpha)


def exponential(n):
    return 2.0 * 0.5 ** (max(n - 3, 0) / 4)


CASES = {
    "constant": (optim.constant_schedule(0.3), lambda n: 0.3),
    "linear": (optim.linear_schedule(2.0, 0.5, 10, 3), linear),
    "polynomial": (
        optim.polynomial_schedule(2.0, 0.5, 3, 10),
        lambda n: 0.5 + 1.5 * (1 - min(n, 10) / 10) ** 3,
    ),
    "exponential": (optim.exponential_decay(2.0, 4, 0.5, 3), exponential),
    "exponential with a floor": (
        optim.exponential_decay(2.0, 4, 0.5, 3, end_value=0.7),
        lambda n: max(exponential(n), 0.7),
    ),
    "exponential growth": (
        optim.exponential_decay(2.0, 4, 1.5, end_value=5.0),
        lambda n: min(2.0 * 1.5 ** (n / 4), 5.0),
    ),
    "staircase": (
        optim.exponential_decay(2.0, 4, 0.5, staircase=True),
        lambda n: 2.0 * 0.5 ** (n // 4),
    ),
    "cosine": (optim.cosine_decay_schedule(2.0, 10, 0.1), cosine),
    "cosine squared": (
        optim.cosine_decay_schedule(2.0, 10, 0.1, exponent=2.0),
        lambda n: cosine(n, exponent=2.0),
    ),
    "piecewise": (
        optim.piecewise_constant_schedule(2.0, {12: 0.1, 5: 0.5}),
        lambda n: 2.0 * (0.5 if n >= 5 else 1.0) * (0.1 if n >= 12 else 1.0),
    ),
    "joined": (
        optim.join_schedules([lambda n: n * 1.0, lambda n: 10.0 * n, lambda n: -1.0 * n], [4, 9]),
        lambda n: n if n < 4 else 10 * (n - 4) if n < 9 else -(n - 9),
    ),
    "warmup then constant": (
        optim.warmup_constant_schedule(0.5, 2.0, 5),
        lambda n: 0.5 + 1.5 * min(n, 5) / 5,
    ),
    "warmup then cosine": (
        optim.warmup_cosine_decay_schedule(0.5, 2.0, 5, 15, 0.2),
        lambda n: 0.5 + 1.5 * n / 5 if n < 5 else cosine(n - 5),
    ),
    "cosine without warmup": (
        optim.warmup_cosine_decay_schedule(0.0, 2.0, 0, 10, 0.2),
        cosine,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_schedules_follow_their_formula(name):
    schedule, formula = CASES[name]
    actual = [float(schedule(n)) for n in STEPS]
    np.testing.assert_allclose(actual, [formula(n) for n in STEPS], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_schedules_take_a_traced_step(name):
    schedule, _ = CASES[name]
    jitted = fg.jit(lambda n: schedule(n) * 1.0)
    actual = [float(jitted(np.int32(n))) for n in STEPS]
    np.testing.assert_allclose(actual, [float(schedule(n)) for n in STEPS], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.linear_schedule(1.0, 0.0, 0),
        lambda: optim.polynomial_schedule(1.0, 0.0, 2, -1),
        lambda: optim.exponential_decay(1.0, 0, 0.5),
        lambda: optim.exponential_decay(1.0, 3, -0.5),
        lambda: optim.cosine_decay_schedule(1.0, 0),
        lambda: optim.warmup_constant_schedule(0.0, 1.0, -2),
        lambda: optim.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
        lambda: optim.piecewise_constant_schedule(1.0, {3: -0.5}),
        lambda: optim.join_schedules([lambda n: n], [3]),
        lambda: optim.join_schedules([lambda n: n] * 3, [5, 3]),
    ],
)
def test_impossible_schedules_are_errors(make):
    with pytest.raises(ValueError, match="got"):
        make()
