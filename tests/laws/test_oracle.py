"""The oracle passes right derivatives of noisy functions and refuses wrong ones."""

import numpy as np
import pytest

from fgrad.testing import oracle
from fgrad.testing.oracle import assert_derivative, noise

X = np.array([0.3, -0.7, 1.1])
V = np.array([0.5, 1.0, -0.25])
FAR = np.array([1.0, 2.0**8, 2.0**12])


def shifted(x):
    """x + sin(x), to the rounding of numbers near FAR."""
    return [(x + np.sin(x) + FAR) - FAR]


def scattered(scale):
    """exp, with unrelated errors of a standard deviation that is `scale`."""

    def f(x):
        fraction = np.sin(x * 1.234567e9) * 43758.5453 % 1.0
        return [np.exp(x) + scale * np.sqrt(12.0) * (fraction - 0.5)]

    return f


def solved(x):
    """Solutions of a system whose condition is 400 at x = 0."""
    matrix = np.array([[1.0, 1.0], [1.0, 1.01]]) + x * np.array([[0.0, 1.0], [-1.0, 0.0]])
    return [np.linalg.solve(matrix, np.array([1.0, -1.0]))]


def derivative_of_solved(x):
    # By Cramer's rule: the determinant is 0.01 + x².
    det, slope = 0.01 + x * x, 2 * x
    solution = np.array([1.01 + 1.0 + x, -1.0 - (1.0 - x)])
    return [np.array([1.0, 1.0]) / det - solution * slope / det**2]


def test_noise_is_the_deviation_of_rounding():
    [found] = noise(shifted, [X], [V])
    rounding = np.spacing(FAR) / np.sqrt(12)
    assert (found[1:] > rounding[1:] / 2).all()
    assert (found[1:] < rounding[1:] * 2).all()
    assert found[0] < 1e-15


@pytest.mark.parametrize("scale", [1e-14, 1e-10, 1e-3])
def test_noise_of_a_known_size_is_found(scale):
    [found] = noise(scattered(scale), [X], [V])
    assert (found > scale / 3).all()
    assert (found < scale * 3).all()


def test_noise_of_complex_results_counts_both_parts():
    [found] = noise(lambda x: [scattered(1e-9)(x)[0] * (3 + 4j)], [X], [V])
    assert (found > 5e-9 / 3).all()
    assert (found < 15e-9).all()


def test_a_steep_function_is_not_noisy():
    [found] = noise(lambda x: [np.exp(50 * x)], [X], [V])
    assert (found <= 1e-13 * np.exp(50 * X)).all()


def test_an_exact_function_has_no_noise():
    dyadic, direction = np.array([0.25, 0.5]), np.array([1.0, -1.0])
    [found] = noise(lambda x: [2 * x], [dyadic], [direction])
    assert (found == 0).all()


CASES = {
    "rounded far from 0": (shifted, [(1 + np.cos(X)) * V], X, V),
    "noise of 1e-12": (scattered(1e-12), [np.exp(X) * V], X, V),
    "ill-conditioned system": (solved, derivative_of_solved(0.02), np.array(0.02), np.array(1.0)),
}


@pytest.mark.parametrize(("f", "right", "x", "v"), CASES.values(), ids=CASES)
def test_a_right_derivative_of_a_noisy_function_passes(f, right, x, v):
    assert_derivative(right, f, [x], [v], "derivative")


@pytest.mark.parametrize("scale", [0.0, 1e-12])
def test_noise_is_measured_only_where_an_element_is_off(scale, monkeypatch):
    calls = []

    def measured(*args):
        calls.append(args)
        return noise(*args)

    monkeypatch.setattr(oracle, "noise", measured)
    assert_derivative([np.exp(X) * V], scattered(scale), [X], [V], "derivative")
    assert bool(calls) == (scale > 0)


def last_correction(power):
    """Of the extrapolated differences of x**power at 0, for the greatest step."""
    steps = 2.0 ** np.arange(-4, -8, -1)
    odd = 2 * steps**power
    five = (8 * odd[1:] - odd[:-1]) / (12 * steps[1:])
    six = five[1:] + (five[1:] - five[:-1]) / 15
    return six[1] - six[0]


def test_a_last_correction_that_vanishes_by_chance_is_not_trusted():
    factor = -last_correction(9) / last_correction(7)

    def f(x):
        return [x + 1e3 * (x**9 + factor * x**7)]

    at, along = np.array(0.0), np.array(1.0)
    [value], [bound] = oracle.differences(f, [at], [along])
    assert abs(value - 1) > 100 * bound
    assert_derivative([along], f, [at], [along], "derivative")
    with pytest.raises(AssertionError, match="elements are wrong"):
        assert_derivative([along * (1 + 1e-6)], f, [at], [along], "derivative")


@pytest.mark.parametrize(("f", "right", "x", "v"), CASES.values(), ids=CASES)
def test_a_derivative_wrong_by_a_millionth_fails(f, right, x, v):
    for factor in (1 + 1e-6, 1 - 1e-6):
        with pytest.raises(AssertionError, match="elements are wrong"):
            assert_derivative([d * factor for d in right], f, [x], [v], "derivative")


@pytest.mark.parametrize("scale", 10.0 ** np.arange(-16.0, 0.0, 0.5))
def test_no_noise_hides_an_error_of_a_millionth(scale):
    with pytest.raises(AssertionError, match=r"elements are wrong|do not settle"):
        assert_derivative([np.exp(X) * V * (1 + 1e-6)], scattered(scale), [X], [V], "derivative")


def test_a_small_element_is_not_judged_by_the_noise_of_a_great_one():
    def f(x):
        return [np.stack([scattered(1e-11)(x)[0], np.sin(x)])]

    right = np.stack([np.exp(X) * V, np.cos(X) * V])
    assert_derivative([right], f, [X], [V], "derivative")
    wrong = right.copy()
    wrong[1, 2] *= 1 + 1e-10
    with pytest.raises(AssertionError, match=r"1 of 6 elements are wrong; at index \(1, 2\)"):
        assert_derivative([wrong], f, [X], [V], "derivative")
