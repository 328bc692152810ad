"""Transformations that scale updates or carry moments of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import fgrad.numpy as fnp
from fgrad import tree_util
from fgrad.optim._leaves import (
    PyTree,
    Value,
    accumulation_dtype,
    bias_corrected,
    cast,
    check_decay,
    increment,
    scaled,
    squared_magnitude,
    widen,
    zero_count,
    zeros_like,
)
from fgrad.optim.base import (
    GradientTransformation,
    ScalarOrSchedule,
    Schedule,
    init_empty_state,
    masked,
    require_params,
)


class TraceState(NamedTuple):
    """State of ``trace``.

    Attributes:
        trace: Decayed sum of past updates, a tree like the parameters.
    """

    trace: PyTree


class ScaleByScheduleState(NamedTuple):
    """State of ``scale_by_schedule``.

    Attributes:
        count: Steps taken so far, an int32 scalar.
    """

    count: Value


class ScaleByAdamState(NamedTuple):
    """State of ``scale_by_adam``.

    Attributes:
        count: Steps taken so far, an int32 scalar.
        mu: Decayed mean of the updates, a tree like the parameters.
        nu: Decayed mean of their squared magnitudes, likewise.
    """

    count: Value
    mu: PyTree
    nu: PyTree


class EmaState(NamedTuple):
    """State of ``ema``.

    Attributes:
        count: Steps taken so far, an int32 scalar.
        ema: Decayed mean of the updates before its bias is corrected, a tree like the parameters.
    """

    count: Value
    ema: PyTree


def scale(step_size: float | Value) -> GradientTransformation:
    """Multiply the updates by ``step_size``.

    Args:
        step_size: A scalar.

    Returns:
        A stateless transformation.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> print(optim.scale(-2.0).update(np.ones(2, np.float32), optim.EmptyState())[0])
        [-2. -2.]
    """

    def update(updates: PyTree, state: PyTree, _params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree_util.tree_map(lambda g: scaled(g, step_size), updates), state

    return GradientTransformation(init_empty_state, update)


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """Multiply the updates of step ``n`` (from 0) by ``step_size_fn(n)``.

    Args:
        step_size_fn: Maps the int32 step to a scalar.

    Returns:
        A transformation with a ``ScaleByScheduleState``.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> step = optim.scale_by_schedule(lambda count: 1.0 / (count + 1))
        >>> state = step.init(None)
        >>> _, state = step.update(np.ones(1, np.float32), state)
        >>> print(step.update(np.ones(1, np.float32), state)[0])
        [0.5]
    """

    def init(_params: PyTree) -> ScaleByScheduleState:
        return ScaleByScheduleState(zero_count())

    def update(
        updates: PyTree, state: ScaleByScheduleState, _params: PyTree = None
    ) -> tuple[PyTree, ScaleByScheduleState]:
        step_size = step_size_fn(state.count)
        updates = tree_util.tree_map(lambda g: scaled(g, step_size), updates)
        return updates, ScaleByScheduleState(increment(state.count))

    return GradientTransformation(init, update)


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule, *, flip_sign: bool = True
) -> GradientTransformation:
    """Multiply the updates by minus the learning rate, so that adding them descends.

    Args:
        learning_rate: A scalar, or a schedule from the step to one.
        flip_sign: False multiplies by plus the learning rate.

    Returns:
        ``scale`` or ``scale_by_schedule``.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> step = optim.scale_by_learning_rate(0.5)
        >>> print(step.update(np.ones(2, np.float32), step.init(None))[0])
        [-0.5 -0.5]
    """
    sign = -1 if flip_sign else 1
    if callable(learning_rate):
        return scale_by_schedule(lambda count: sign * learning_rate(count))
    return scale(sign * learning_rate)


def trace(
    decay: float, *, nesterov: bool = False, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Momentum: replace the updates by their decayed sum ``t ← g + decay · t``.

    Args:
        decay: Factor of the old sum, in [0, 1).
        nesterov: Return ``g + decay · t`` with the new ``t``, one step ahead.
        accumulator_dtype: dtype of the state; None takes each parameter's.

    Returns:
        A transformation with a ``TraceState``.

    Raises:
        ArgumentError: ``decay`` is not in [0, 1).

    Source:
        Sutskever et al., *On the importance of initialization and momentum in deep learning*,
        ICML 2013; in the form where the learning rate multiplies the whole sum.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> momentum = optim.trace(0.5)
        >>> g = np.ones(1, np.float32)
        >>> _, state = momentum.update(g, momentum.init(g))
        >>> print(momentum.update(g, state)[0])
        [1.5]
    """
    check_decay("trace: decay", decay)

    def init(params: PyTree) -> TraceState:
        return TraceState(zeros_like(params, accumulator_dtype))

    def update(
        updates: PyTree, state: TraceState, _params: PyTree = None
    ) -> tuple[PyTree, TraceState]:
        def add(g: Value, t: Value) -> Value:
            return widen(g) + scaled(widen(t), decay)

        new = tree_util.tree_map(add, updates, state.trace)
        ahead = tree_util.tree_map(add, updates, new) if nesterov else new
        updates = tree_util.tree_map(lambda g, t: cast(t, g), updates, ahead)
        return updates, TraceState(tree_util.tree_map(cast, new, state.trace))

    return GradientTransformation(init, update)


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Divide the decayed mean of the updates by the root of their decayed mean square.

    ``m ← b1·m + (1 - b1)·g``, ``v ← b2·v + (1 - b2)·|g|²``, and the update of step ``n`` (from 1)
    is ``(m / (1 - b1ⁿ)) / (√(v / (1 - b2ⁿ) + eps_root) + eps)``.

    Args:
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        eps: Added to the root.
        eps_root: Added under the root; positive to differentiate through a step at zero gradient.
        mu_dtype: dtype of the mean in the state; None takes each parameter's.
        nesterov: Look one step ahead in the mean (NAdam).

    Returns:
        A transformation with a ``ScaleByAdamState``.

    Raises:
        ArgumentError: A decay is not in [0, 1).

    Numerics:
        16-bit leaves are computed in float32; the moments are stored in their own dtype, where a
        mean square with ``b2 = 0.999`` stops growing below its true value. Keep float32 parameters
        (or a float32 copy) for long training.

    Source:
        Kingma and Ba, *Adam: A Method for Stochastic Optimization*, arXiv:1412.6980, algorithm 1;
        Dozat, *Incorporating Nesterov Momentum into Adam*, 2016.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> adam = optim.scale_by_adam()
        >>> g = np.array([3.0, -0.25], np.float32)
        >>> print(adam.update(g, adam.init(g))[0].round(4))
        [ 1. -1.]
    """
    check_decay("scale_by_adam: b1", b1)
    check_decay("scale_by_adam: b2", b2)

    def init(params: PyTree) -> ScaleByAdamState:
        nu = tree_util.tree_map(lambda p: fnp.zeros_like(fnp.real(p)), params)
        return ScaleByAdamState(zero_count(), zeros_like(params, mu_dtype), nu)

    def update(
        updates: PyTree, state: ScaleByAdamState, _params: PyTree = None
    ) -> tuple[PyTree, ScaleByAdamState]:
        count = increment(state.count)
        mu = tree_util.tree_map(lambda g, m: _mix(g, m, b1), updates, state.mu)
        nu = tree_util.tree_map(
            lambda g, v: _mix(squared_magnitude(widen(g)), v, b2), updates, state.nu
        )

        def direction(g: Value, m: Value, v: Value) -> Value:
            mean = bias_corrected(m, b1, count)
            if nesterov:
                ahead = bias_corrected(m, b1, count + 1)
                mean = b1 * ahead + (1 - b1) * bias_corrected(g, b1, count)
            root = fnp.sqrt(bias_corrected(v, b2, count) + eps_root)
            return cast(mean / (root + eps), g)

        new = tree_util.tree_map(direction, updates, mu, nu)
        mu = tree_util.tree_map(cast, mu, state.mu)
        nu = tree_util.tree_map(cast, nu, state.nu)
        return new, ScaleByAdamState(count, mu, nu)

    return GradientTransformation(init, update)


def _mix(x: Value, mean: Value, decay: float) -> Value:
    """``decay · mean + (1 - decay) · x``, in at least the precision in which ``x`` is computed."""
    return decay * widen(mean) + (1 - decay) * widen(x)


def add_decayed_weights(
    weight_decay: float | Value = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> GradientTransformation:
    """Add ``weight_decay · params`` to the updates.

    Args:
        weight_decay: A scalar.
        mask: Selects the parameters that decay, as in ``masked``; None selects all.

    Returns:
        A transformation whose ``update`` needs the parameters.

    Raises:
        ArgumentError: ``update`` is called without parameters.

    Source:
        Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, arXiv:1711.05101.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> decay = optim.add_decayed_weights(0.5)
        >>> params = np.full(1, 4.0, np.float32)
        >>> print(decay.update(np.ones(1, np.float32), decay.init(params), params)[0])
        [3.]
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        require_params("add_decayed_weights", params)

        def decayed(g: Value, p: Value) -> Value:
            return cast(widen(g) + scaled(widen(p), weight_decay), g)

        return tree_util.tree_map(decayed, updates, params), state

    transformation = GradientTransformation(init_empty_state, update)
    return transformation if mask is None else masked(transformation, mask)


def ema(
    decay: float, *, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Replace the updates by their decayed mean ``e ← decay · e + (1 - decay) · g``.

    Applied to parameters instead of gradients it keeps their moving average.

    Args:
        decay: Weight of the past, in [0, 1).
        debias: Divide by ``1 - decayⁿ`` at step ``n`` (from 1), so that the zeros of the start do
            not count.
        accumulator_dtype: dtype of the state; None takes each parameter's, float32 if it has 16
            bits (a 16-bit mean would stop moving).

    Returns:
        A transformation with an ``EmaState``.

    Raises:
        ArgumentError: ``decay`` is not in [0, 1).

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> average = optim.ema(0.5, debias=False)
        >>> x = np.full(1, 8.0, np.float32)
        >>> print(average.update(x, average.init(x))[0])
        [4.]
    """
    check_decay("ema: decay", decay)

    def init(params: PyTree) -> EmaState:
        def zero(p: Value) -> Value:
            return fnp.zeros_like(p, dtype=accumulator_dtype or accumulation_dtype(p.dtype))

        return EmaState(zero_count(), tree_util.tree_map(zero, params))

    def update(updates: PyTree, state: EmaState, _params: PyTree = None) -> tuple[PyTree, EmaState]:
        count = increment(state.count)
        mean = tree_util.tree_map(lambda g, e: _mix(g, e, decay), updates, state.ema)
        out = mean
        if debias:
            out = tree_util.tree_map(lambda e: bias_corrected(e, decay, count), mean)
        out = tree_util.tree_map(lambda g, e: cast(e, g), updates, out)
        return out, EmaState(count, tree_util.tree_map(cast, mean, state.ema))

    return GradientTransformation(init, update)
