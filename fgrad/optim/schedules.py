"""Schedules: functions from the step (from 0; an int or an int32 scalar) to a scalar."""

import math
from collections.abc import Mapping, Sequence

import fgrad.numpy as fnp
from fgrad.core.errors import ArgumentError
from fgrad.optim._leaves import Value
from fgrad.optim.base import Schedule


def _check_steps(function: str, name: str, steps: int) -> None:
    if steps <= 0:
        message = f"{function}: {name} must be positive, got {steps}"
        raise ArgumentError(message)


def constant_schedule(value: float) -> Schedule:
    """The schedule that is ``value`` at every step.

    Args:
        value: A scalar.

    Returns:
        The schedule.

    Example:
        >>> import fgrad.optim as optim
        >>> print(float(optim.constant_schedule(0.5)(7)))
        0.5
    """

    def schedule(_count: Value) -> Value:
        return value

    return schedule


def polynomial_schedule(
    init_value: float,
    end_value: float,
    power: float,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    """From ``init_value`` to ``end_value`` along a power of the remaining time.

    ``end + (init - end) · (1 - n / transition_steps)^power``, with ``n`` counted from
    ``transition_begin`` and held in [0, transition_steps].

    Args:
        init_value: Value until ``transition_begin``.
        end_value: Value after ``transition_steps`` more steps.
        power: Exponent of the remaining fraction.
        transition_steps: Length of the transition, at least 1.
        transition_begin: First step of the transition.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``transition_steps`` is not positive.

    Example:
        >>> import fgrad.optim as optim
        >>> print(float(optim.polynomial_schedule(1.0, 0.0, 2, transition_steps=4)(2)))
        0.25
    """
    _check_steps("polynomial_schedule", "transition_steps", transition_steps)

    def schedule(count: Value) -> Value:
        elapsed = fnp.clip(fnp.asarray(count) - transition_begin, 0, transition_steps)
        return end_value + (init_value - end_value) * (1 - elapsed / transition_steps) ** power

    return schedule


def linear_schedule(
    init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """From ``init_value`` to ``end_value`` on a straight line over ``transition_steps`` steps.

    Args:
        init_value: Value until ``transition_begin``.
        end_value: Value after ``transition_steps`` more steps.
        transition_steps: Length of the transition, at least 1.
        transition_begin: First step of the transition.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``transition_steps`` is not positive.

    Example:
        >>> import fgrad.optim as optim
        >>> print(float(optim.linear_schedule(0.0, 1.0, transition_steps=4)(1)))
        0.25
    """
    _check_steps("linear_schedule", "transition_steps", transition_steps)
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    *,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """``init_value · decay_rate^(n / transition_steps)``, with ``n`` from ``transition_begin``.

    Args:
        init_value: Value until ``transition_begin``.
        transition_steps: Steps in which the value is multiplied by ``decay_rate``, at least 1.
        decay_rate: Positive factor.
        transition_begin: First step of the decay.
        staircase: Multiply once every ``transition_steps`` instead of a little at every step.
        end_value: Bound which the value does not pass: from above for ``decay_rate < 1``, from
            below otherwise.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``transition_steps`` or ``decay_rate`` is not positive.

    Example:
        >>> import fgrad.optim as optim
        >>> print(float(optim.exponential_decay(1.0, transition_steps=2, decay_rate=0.25)(1)))
        0.5
    """
    _check_steps("exponential_decay", "transition_steps", transition_steps)
    if decay_rate <= 0:
        message = f"exponential_decay: decay_rate must be positive, got {decay_rate}"
        raise ArgumentError(message)

    def schedule(count: Value) -> Value:
        elapsed = fnp.maximum(fnp.asarray(count) - transition_begin, 0)
        periods = elapsed // transition_steps if staircase else elapsed / transition_steps
        value = init_value * fnp.exp(periods * math.log(decay_rate))
        if end_value is None:
            return value
        bound = fnp.maximum if decay_rate < 1 else fnp.minimum
        return bound(value, end_value)

    return schedule


def cosine_decay_schedule(
    init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0
) -> Schedule:
    """From ``init_value`` to ``alpha · init_value`` along half a cosine wave.

    ``init · ((1 - alpha) · c^exponent + alpha)`` with ``c = (1 + cos(π n / decay_steps)) / 2``.

    Args:
        init_value: Value at step 0.
        decay_steps: Length of the decay, at least 1; the value stays afterwards.
        alpha: Final value as a fraction of ``init_value``.
        exponent: Power of the wave.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``decay_steps`` is not positive.

    Source:
        Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*,
        arXiv:1608.03983, equation 5, without restarts.

    Example:
        >>> import fgrad.optim as optim
        >>> print(round(float(optim.cosine_decay_schedule(1.0, decay_steps=4)(2)), 6))
        0.5
    """
    _check_steps("cosine_decay_schedule", "decay_steps", decay_steps)

    def schedule(count: Value) -> Value:
        elapsed = fnp.clip(fnp.asarray(count), 0, decay_steps)
        wave = (1 + fnp.cos(math.pi * (elapsed / decay_steps))) / 2
        return init_value * ((1 - alpha) * wave**exponent + alpha)

    return schedule


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """``init_value`` times the scales of all boundaries that have been reached.

    Args:
        init_value: Value before the first boundary.
        boundaries_and_scales: Maps a step to the factor that holds from it on.

    Returns:
        The schedule.

    Raises:
        ArgumentError: A scale is negative.

    Example:
        >>> import fgrad.optim as optim
        >>> schedule = optim.piecewise_constant_schedule(1.0, {10: 0.5})
        >>> print(float(schedule(9)), float(schedule(10)))
        1.0 0.5
    """
    steps = sorted((boundaries_and_scales or {}).items())
    for boundary, factor in steps:
        if factor < 0:
            message = (
                "piecewise_constant_schedule: scales must not be negative, "
                f"got {factor} at step {boundary}"
            )
            raise ArgumentError(message)

    def schedule(count: Value) -> Value:
        value: Value = init_value
        for boundary, factor in steps:
            value = value * fnp.where(fnp.asarray(count) >= boundary, factor, 1.0)
        return value

    return schedule


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Run schedules one after the other, each counting its steps from its own start.

    Args:
        schedules: The schedules in order.
        boundaries: The step at which each schedule but the first takes over, not decreasing.

    Returns:
        The schedule.

    Raises:
        ArgumentError: There is not one boundary less than schedules, or they decrease.

    Example:
        >>> import fgrad.optim as optim
        >>> rise, stay = optim.linear_schedule(0.0, 1.0, 4), optim.constant_schedule(1.0)
        >>> print(float(optim.join_schedules([rise, stay], [4])(9)))
        1.0
    """
    if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(boundaries):
        message = (
            "join_schedules: needs one boundary less than schedules, in increasing order; "
            f"got {len(schedules)} schedules and boundaries {list(boundaries)}"
        )
        raise ArgumentError(message)

    def schedule(count: Value) -> Value:
        count = fnp.asarray(count)
        value = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            value = fnp.where(count < boundary, value, following(count - boundary))
        return value

    return schedule


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    """Rise on a line from ``init_value`` to ``peak_value``, then stay.

    Args:
        init_value: Value at step 0.
        peak_value: Value from ``warmup_steps`` on.
        warmup_steps: Length of the rise; 0 starts at the peak.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``warmup_steps`` is negative.

    Example:
        >>> import fgrad.optim as optim
        >>> print(float(optim.warmup_constant_schedule(0.0, 1.0, warmup_steps=4)(2)))
        0.5
    """
    if warmup_steps == 0:
        return constant_schedule(peak_value)
    _check_steps("warmup_constant_schedule", "warmup_steps", warmup_steps)
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """Rise on a line to ``peak_value``, then fall along half a cosine wave to ``end_value``.

    Args:
        init_value: Value at step 0.
        peak_value: Value at ``warmup_steps``.
        warmup_steps: Length of the rise; 0 starts at the peak.
        decay_steps: Length of the whole schedule, the rise included.
        end_value: Value from ``decay_steps`` on.
        exponent: Power of the wave.

    Returns:
        The schedule.

    Raises:
        ArgumentError: ``decay_steps`` does not exceed ``warmup_steps``, or that is negative.

    Example:
        >>> import fgrad.optim as optim
        >>> schedule = optim.warmup_cosine_decay_schedule(0.0, 1.0, 2, 10)
        >>> print([round(float(schedule(n)), 6) for n in (0, 1, 2, 6, 10)])
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if warmup_steps < 0 or decay_steps <= warmup_steps:
        message = (
            "warmup_cosine_decay_schedule: decay_steps is the length of the whole schedule and "
            f"must exceed warmup_steps >= 0, got decay_steps={decay_steps}, "
            f"warmup_steps={warmup_steps}"
        )
        raise ArgumentError(message)
    alpha = 0.0 if peak_value == 0 else end_value / peak_value
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    if warmup_steps == 0:
        return decay
    return join_schedules(
        [linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps]
    )
