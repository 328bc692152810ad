"""Complete optimizers: chains that end with the learning rate."""

from collections.abc import Callable
from typing import Any

from fgrad.optim._leaves import PyTree
from fgrad.optim.base import GradientTransformation, ScalarOrSchedule, chain
from fgrad.optim.transforms import (
    add_decayed_weights,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: float | None = None,
    *,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> GradientTransformation:
    """Stochastic gradient descent, ``p ← p - lr · g``, with optional momentum.

    Args:
        learning_rate: A scalar, or a schedule from the step (from 0) to one.
        momentum: Decay of the sum of past gradients, in [0, 1); None is plain descent.
        nesterov: Nesterov's form of the momentum.
        accumulator_dtype: dtype of the sum; None takes each parameter's.

    Returns:
        The optimizer.

    Source:
        Sutskever et al., *On the importance of initialization and momentum in deep learning*,
        ICML 2013.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.sgd(0.5)
        >>> g = np.ones(2, np.float32)
        >>> print(optimizer.update(g, optimizer.init(g))[0])
        [-0.5 -0.5]
    """
    if momentum is None:
        return scale_by_learning_rate(learning_rate)
    return chain(
        trace(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )


def momentum(
    learning_rate: ScalarOrSchedule, decay: float = 0.9, *, nesterov: bool = False
) -> GradientTransformation:
    """Stochastic gradient descent with momentum: ``t ← g + decay · t``, ``p ← p - lr · t``.

    Args:
        learning_rate: A scalar, or a schedule from the step (from 0) to one.
        decay: Decay of the sum of past gradients, in [0, 1).
        nesterov: Nesterov's form.

    Returns:
        The optimizer, ``sgd(learning_rate, decay, nesterov=nesterov)``.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.momentum(1.0, 0.5)
        >>> g = np.ones(1, np.float32)
        >>> _, state = optimizer.update(g, optimizer.init(g))
        >>> print(optimizer.update(g, state)[0])
        [-1.5]
    """
    return sgd(learning_rate, decay, nesterov=nesterov)


def adam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam: steps along the mean gradient over the root of the mean squared gradient.

    Args:
        learning_rate: A scalar, or a schedule from the step (from 0) to one.
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        eps: Added to the root.
        eps_root: Added under the root.
        mu_dtype: dtype of the mean in the state; None takes each parameter's.
        nesterov: Look one step ahead in the mean (NAdam).

    Returns:
        The optimizer.

    Source:
        Kingma and Ba, *Adam: A Method for Stochastic Optimization*, arXiv:1412.6980.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.adam(0.5)
        >>> g = np.array([4.0, -0.125], np.float32)
        >>> print(optimizer.update(g, optimizer.init(g))[0].round(4))
        [-0.5  0.5]
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: float = 1e-4,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with decoupled weight decay: ``p ← p - lr · (adam(g) + weight_decay · p)``.

    Args:
        learning_rate: A scalar, or a schedule from the step (from 0) to one; it multiplies the
            decay too.
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        eps: Added to the root.
        eps_root: Added under the root.
        mu_dtype: dtype of the mean in the state; None takes each parameter's.
        weight_decay: Strength of the decay.
        mask: Selects the parameters that decay: a tree of bools (a prefix of the parameters'), or
            a function that makes one from the parameters. None selects all.
        nesterov: Look one step ahead in the mean (NAdam).

    Returns:
        The optimizer. Its ``update`` needs the parameters.

    Source:
        Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, arXiv:1711.05101.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.adamw(0.5, weight_decay=0.5)
        >>> p, g = np.full(1, 2.0, np.float32), np.ones(1, np.float32)
        >>> print(optimizer.update(g, optimizer.init(p), p)[0])
        [-1.]
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
