"""Activation functions with a kink. Each keeps the shape and the float dtype of ``x``.

At a kink the derivative is 0 for ``relu``, ``relu6``, ``hard_sigmoid`` and ``hard_tanh``, and that
of the right-hand branch for ``leaky_relu``.
"""

from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.nn.activation import require_float

Value = Any

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def relu(x: Value) -> Value:
    """``max(x, 0)``, with derivative 0 at 0.

    Args:
        x: ``[...]``, real.

    Returns:
        ``[...]``. NaN stays NaN.

    Source:
        Nair and Hinton, *Rectified Linear Units Improve Restricted Boltzmann Machines*, ICML 2010.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.relu(np.array([-1.0, 2.0], np.float32)))
        [0. 2.]
    """
    return lax.relu(x)


def relu6(x: Value) -> Value:
    """``min(max(x, 0), 6)``, with derivative 0 at 0 and at 6.

    Args:
        x: ``[...]``, real.

    Returns:
        ``[...]``. NaN stays NaN.

    Source:
        Krizhevsky, *Convolutional Deep Belief Networks on CIFAR-10*, 2010.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.relu6(np.array([-1.0, 2.0, 8.0], np.float32)))
        [0. 2. 6.]
    """
    x = require_float("relu6", x)
    return _bounded(x, 0, 6)


def _bounded(x: Value, low: float, high: float) -> Value:
    """``x`` held in [low, high]; the derivative is 0 at both ends, where ``clip`` has ½."""
    upper = fnp.where(x >= high, fnp.full_like(x, high), x)
    return fnp.where(x <= low, fnp.full_like(x, low), upper)


def leaky_relu(x: Value, negative_slope: float = 1e-2) -> Value:
    """``x`` where ``x >= 0``, else ``negative_slope · x``.

    Args:
        x: ``[...]``, float.
        negative_slope: Slope below 0.

    Returns:
        ``[...]``.

    Source:
        Maas, Hannun and Ng, *Rectifier Nonlinearities Improve Neural Network Acoustic Models*,
        ICML 2013.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.leaky_relu(np.array([-1.0, 2.0], np.float32), 0.5))
        [-0.5  2. ]
    """
    x = require_float("leaky_relu", x)
    return fnp.where(x >= 0, x, negative_slope * x)


def elu(x: Value, alpha: float = 1.0) -> Value:
    """``x`` where ``x > 0``, else ``alpha · (exp(x) - 1)``.

    Args:
        x: ``[...]``, float.
        alpha: Minus the limit at −∞.

    Returns:
        ``[...]``.

    Source:
        Clevert, Unterthiner and Hochreiter, arXiv:1511.07289.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.elu(np.array([-100.0, 2.0], np.float32)))
        [-1.  2.]
    """
    x = require_float("elu", x)
    # expm1 overflows for large x; the select inside keeps that out of the derivative.
    return fnp.where(x > 0, x, alpha * fnp.expm1(fnp.where(x > 0, fnp.zeros_like(x), x)))


def selu(x: Value) -> Value:
    """``λ · elu(x, α)`` with the constants that keep mean 0 and variance 1.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Source:
        Klambauer et al., *Self-Normalizing Neural Networks*, arXiv:1706.02515.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.selu(np.array([0.0, 2.0], np.float32)).round(3))
        [0.    2.101]
    """
    return _SELU_SCALE * elu(require_float("selu", x), _SELU_ALPHA)


def celu(x: Value, alpha: float = 1.0) -> Value:
    """``x`` where ``x > 0``, else ``alpha · (exp(x / alpha) - 1)``: differentiable at 0.

    Args:
        x: ``[...]``, float.
        alpha: Minus the limit at −∞.

    Returns:
        ``[...]``.

    Source:
        Barron, *Continuously Differentiable Exponential Linear Units*, arXiv:1704.07483.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.celu(np.array([-100.0, 2.0], np.float32), 0.5))
        [-0.5  2. ]
    """
    x = require_float("celu", x)
    return fnp.where(x > 0, x, alpha * fnp.expm1(fnp.where(x > 0, fnp.zeros_like(x), x) / alpha))


def hard_tanh(x: Value) -> Value:
    """``min(max(x, -1), 1)``, with derivative 0 at both ends.

    Args:
        x: ``[...]``, real.

    Returns:
        ``[...]``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.hard_tanh(np.array([-3.0, 0.5, 3.0], np.float32)))
        [-1.   0.5  1. ]
    """
    return _bounded(fnp.asarray(x), -1, 1)


def hard_sigmoid(x: Value) -> Value:
    """``relu6(x + 3) / 6``, a sigmoid made of three lines.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``, in [0, 1].

    Source:
        Howard et al., *Searching for MobileNetV3*, arXiv:1905.02244.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.hard_sigmoid(np.array([-3.0, 0.0, 3.0], np.float32)))
        [0.  0.5 1. ]
    """
    return relu6(require_float("hard_sigmoid", x) + 3) / 6


def hard_silu(x: Value) -> Value:
    """``x · hard_sigmoid(x)``, also known as hard swish.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Source:
        Howard et al., *Searching for MobileNetV3*, arXiv:1905.02244.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.hard_silu(np.array([-4.0, 0.0, 4.0], np.float32)))
        [-0.  0.  4.]
    """
    x = require_float("hard_silu", x)
    return x * hard_sigmoid(x)


hard_swish = hard_silu
