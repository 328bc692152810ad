"""Transformations that decide when an inner one runs: accumulation, and skipping bad steps."""

from collections.abc import Callable
from typing import NamedTuple

import fgrad.numpy as fnp
from fgrad import lax, tree_util
from fgrad.core.errors import ArgumentError
from fgrad.optim._leaves import (
    PyTree,
    Value,
    accumulation_dtype,
    all_finite,
    cast,
    increment,
    widen,
    zero_count,
    zeros_like,
)
from fgrad.optim.base import GradientTransformation

SkipUpdate = Callable[[PyTree, Value, PyTree], Value]


class MultiStepsState(NamedTuple):
    """State of ``MultiSteps``.

    Attributes:
        mini_step: Gradients gathered since the last step, an int32 scalar.
        gradient_step: Steps taken so far, an int32 scalar.
        inner_opt_state: State of the wrapped optimizer.
        acc_grads: Sum of the gathered gradients, float32 for 16-bit leaves.
    """

    mini_step: Value
    gradient_step: Value
    inner_opt_state: PyTree
    acc_grads: PyTree


class ApplyIfFiniteState(NamedTuple):
    """State of ``apply_if_finite``.

    Attributes:
        notfinite_count: Bad gradients in a row, an int32 scalar.
        last_finite: Whether the last gradient was finite, a boolean scalar.
        total_notfinite: Bad gradients so far, an int32 scalar.
        inner_state: State of the wrapped optimizer.
    """

    notfinite_count: Value
    last_finite: Value
    total_notfinite: Value
    inner_state: PyTree


def skip_not_finite(updates: PyTree, _gradient_step: Value, _params: PyTree) -> Value:
    """Whether to leave a gradient out because an element of it is NaN or infinite.

    Args:
        updates: Tree of arrays.

    Returns:
        Boolean scalar, for ``MultiSteps(should_skip_update_fn=skip_not_finite)``.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> bool(optim.skip_not_finite({"w": np.array([1.0, np.nan])}, 0, None))
        True
    """
    return fnp.logical_not(all_finite(updates))


class MultiSteps:
    """Gradient accumulation: one step of an optimizer on the mean of ``k`` gradients.

    The first ``k - 1`` calls of ``update`` return zeros and gather; the ``k``-th returns the
    updates of the wrapped optimizer for the mean. Sums of 16-bit gradients are kept in float32.

    Args:
        opt: The optimizer to wrap.
        every_k_schedule: ``k``, or a function from the number of steps taken to ``k``.
        use_grad_mean: False steps on the sum instead of the mean.
        should_skip_update_fn: ``f(updates, gradient_step, params)``, a boolean scalar; a gradient
            for which it is True is left out, as if ``update`` had not been called.

    Raises:
        ArgumentError: ``every_k_schedule`` is an integer below 1.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.MultiSteps(optim.sgd(1.0), every_k_schedule=2)
        >>> state = optimizer.init(np.zeros(1, np.float32))
        >>> first, state = optimizer.update(np.full(1, 2.0, np.float32), state)
        >>> second, state = optimizer.update(np.full(1, 4.0, np.float32), state)
        >>> print(first, second)
        [0.] [-3.]
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Callable[[Value], Value],
        *,
        use_grad_mean: bool = True,
        should_skip_update_fn: SkipUpdate | None = None,
    ) -> None:
        if not callable(every_k_schedule) and every_k_schedule < 1:
            message = f"MultiSteps: every_k_schedule must be at least 1, got {every_k_schedule}"
            raise ArgumentError(message)
        self._opt = opt
        self._every_k = every_k_schedule
        self._use_grad_mean = use_grad_mean
        self._should_skip = should_skip_update_fn

    def init(self, params: PyTree) -> MultiStepsState:
        """The state before the first gradient of ``params``."""

        def zero(p: Value) -> Value:
            return fnp.zeros_like(p, dtype=accumulation_dtype(fnp.asarray(p).dtype))

        return MultiStepsState(
            mini_step=zero_count(),
            gradient_step=zero_count(),
            inner_opt_state=self._opt.init(params),
            acc_grads=tree_util.tree_map(zero, params),
        )

    def update(
        self, updates: PyTree, state: MultiStepsState, params: PyTree = None
    ) -> tuple[PyTree, MultiStepsState]:
        """Gather one gradient; see the class."""
        operands = (updates, state, params)
        if self._should_skip is None:
            return self._gather(*operands)
        skip = self._should_skip(updates, state.gradient_step, params)
        result: tuple[PyTree, MultiStepsState] = lax.cond(skip, _hold, self._gather, *operands)
        return result

    def has_updated(self, state: MultiStepsState) -> Value:
        """Whether the call of ``update`` that made ``state`` took a step (boolean scalar)."""
        return fnp.logical_and(state.mini_step == 0, state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformation:
        """The same pair of functions as a ``GradientTransformation``."""
        return GradientTransformation(self.init, self.update)

    def _gather(
        self, updates: PyTree, state: MultiStepsState, params: PyTree
    ) -> tuple[PyTree, MultiStepsState]:
        k = self._every_k(state.gradient_step) if callable(self._every_k) else self._every_k
        total = tree_util.tree_map(
            lambda acc, g: acc + widen(g).astype(acc.dtype), state.acc_grads, updates
        )
        gathered = state._replace(mini_step=increment(state.mini_step), acc_grads=total)

        def step(
            updates: PyTree, state: MultiStepsState, params: PyTree
        ) -> tuple[PyTree, MultiStepsState]:
            divisor = k if self._use_grad_mean else 1
            grads = tree_util.tree_map(
                lambda acc, g: cast(acc / fnp.asarray(divisor).astype(acc.dtype), g),
                state.acc_grads,
                updates,
            )
            new, inner = self._opt.update(grads, state.inner_opt_state, params)
            new = tree_util.tree_map(cast, new, updates)
            successor = MultiStepsState(
                mini_step=zero_count(),
                gradient_step=increment(state.gradient_step),
                inner_opt_state=tree_util.tree_map(cast, inner, state.inner_opt_state),
                acc_grads=zeros_like(state.acc_grads),
            )
            return new, successor

        is_last = gathered.mini_step >= k
        result: tuple[PyTree, MultiStepsState] = lax.cond(
            is_last, step, _hold, updates, gathered, params
        )
        return result


def _hold(updates: PyTree, state: PyTree, _params: PyTree) -> tuple[PyTree, PyTree]:
    """Zero updates and the state as it was."""
    return zeros_like(updates), state


def multi_steps(
    opt: GradientTransformation,
    every_k_schedule: int | Callable[[Value], Value],
    *,
    use_grad_mean: bool = True,
    should_skip_update_fn: SkipUpdate | None = None,
) -> GradientTransformation:
    """Gradient accumulation as a transformation; see ``MultiSteps``.

    Args:
        opt: The optimizer to wrap.
        every_k_schedule: ``k``, or a function from the number of steps taken to ``k``.
        use_grad_mean: False steps on the sum instead of the mean.
        should_skip_update_fn: Tells which gradients to leave out, as in ``MultiSteps``.

    Returns:
        A transformation with a ``MultiStepsState``.

    Raises:
        ArgumentError: ``every_k_schedule`` is an integer below 1.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.multi_steps(optim.sgd(1.0), 2)
        >>> g = np.ones(1, np.float32)
        >>> updates, state = optimizer.update(g, optimizer.init(g))
        >>> print(updates, optimizer.update(g, state)[0])
        [0.] [-1.]
    """
    return MultiSteps(
        opt,
        every_k_schedule,
        use_grad_mean=use_grad_mean,
        should_skip_update_fn=should_skip_update_fn,
    ).gradient_transformation()


def apply_if_finite(
    inner: GradientTransformation, max_consecutive_errors: int
) -> GradientTransformation:
    """Skip the steps whose gradient holds a NaN or an infinity.

    A skipped step returns zeros and leaves the inner state as it was. After more than
    ``max_consecutive_errors`` bad gradients in a row the next are applied, so that a run that has
    diverged shows it.

    Args:
        inner: The optimizer to wrap.
        max_consecutive_errors: How many bad gradients in a row are skipped.

    Returns:
        A transformation with an ``ApplyIfFiniteState``.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.apply_if_finite(optim.sgd(1.0), max_consecutive_errors=3)
        >>> state = optimizer.init(np.zeros(1, np.float32))
        >>> updates, state = optimizer.update(np.full(1, np.nan, np.float32), state)
        >>> print(updates, state.total_notfinite)
        [0.] 1
    """

    def init(params: PyTree) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), fnp.asarray(True), zero_count(), inner.init(params))

    def step(updates: PyTree, inner_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        new, successor = inner.update(updates, inner_state, params)
        new = tree_util.tree_map(cast, new, updates)
        return new, tree_util.tree_map(cast, successor, inner_state)

    def update(
        updates: PyTree, state: ApplyIfFiniteState, params: PyTree = None
    ) -> tuple[PyTree, ApplyIfFiniteState]:
        finite = all_finite(updates)
        zero = zero_count()
        bad_in_a_row = fnp.where(finite, zero, increment(state.notfinite_count))
        apply = fnp.logical_or(finite, bad_in_a_row > max_consecutive_errors)
        new, inner_state = lax.cond(apply, step, _hold, updates, state.inner_state, params)
        bad = fnp.where(finite, state.total_notfinite, increment(state.total_notfinite))
        return new, ApplyIfFiniteState(bad_in_a_row, finite, bad, inner_state)

    return GradientTransformation(init, update)
