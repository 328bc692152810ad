"""Smooth activation functions, and ``glu``. Each keeps the float dtype of ``x``."""

from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import AxisError, DtypeError, ShapeError

Value = Any


def require_float(name: str, x: Value) -> Value:
    """``x`` as an array; integers are refused, whose result would have another dtype.

    Args:
        name: The function, for the message.
        x: ``[...]``.

    Returns:
        ``[...]``, float or complex.

    Raises:
        DtypeError: ``x`` is neither.

    Example:
        >>> require_float("gelu", 1.0).shape
        ()
    """
    x = fnp.asarray(x)
    if not fnp.issubdtype(x.dtype, fnp.inexact):
        message = f"{name} needs a float array, got {x.dtype}{list(x.shape)}; convert x with astype"
        raise DtypeError(message)
    return x


def gelu(x: Value, approximate: bool = True) -> Value:
    """``x · Φ(x)``, with the standard normal distribution function Φ.

    Args:
        x: ``[...]``, float.
        approximate: True computes ``x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))``, False
            ``x/2 · erfc(-x/√2)``. PyTorch's default is the latter.

    Returns:
        ``[...]``.

    Source:
        Hendrycks and Gimpel, *Gaussian Error Linear Units*, arXiv:1606.08415.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.gelu(np.array([-1.0, 0.0, 1.0]), approximate=False).round(4))
        [-0.1587  0.      0.8413]
    """
    return lax.gelu(require_float("gelu", x), approximate)


def silu(x: Value) -> Value:
    """``x · sigmoid(x)``, also known as swish.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Source:
        Elfwing, Uchibe and Doya, arXiv:1702.03118; Ramachandran, Zoph and Le, arXiv:1710.05941.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.silu(np.array([-1.0, 0.0, 1.0])).round(4))
        [-0.2689  0.      0.7311]
    """
    return lax.silu(require_float("silu", x))


swish = silu


def sigmoid(x: Value) -> Value:
    """``1 / (1 + exp(-x))``.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``, in [0, 1].

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.sigmoid(np.array([0.0, 100.0], np.float32)))
        [0.5 1. ]
    """
    return lax.logistic(require_float("sigmoid", x))


def softplus(x: Value) -> Value:
    """``log(1 + exp(x))``, without overflow.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Source:
        Dugas et al., *Incorporating Second-Order Functional Knowledge for Better Option Pricing*,
        NeurIPS 2000.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.softplus(np.array([-1000.0, 1000.0], np.float32)))
        [   0. 1000.]
    """
    return lax.softplus(require_float("softplus", x))


def log_sigmoid(x: Value) -> Value:
    """``log(sigmoid(x)) = -softplus(-x)``, without overflow.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.log_sigmoid(np.array([-1000.0], np.float32)))
        [-1000.]
    """
    return lax.log_sigmoid(require_float("log_sigmoid", x))


def soft_sign(x: Value) -> Value:
    """``x / (1 + |x|)``.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``, in (-1, 1).

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.soft_sign(np.array([-1.0, 3.0], np.float32)))
        [-0.5   0.75]
    """
    x = require_float("soft_sign", x)
    return x / (1 + fnp.abs(x))


def squareplus(x: Value, b: float = 4.0) -> Value:
    """``(x + √(x² + b)) / 2``, a softplus made of a root.

    Args:
        x: ``[...]``, float.
        b: Positive width of the bend.

    Returns:
        ``[...]``.

    Source:
        Barron, *Squareplus: A Softplus-Like Algebraic Rectifier*, arXiv:2112.11687.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.squareplus(np.array([0.0], np.float32)))
        [1.]
    """
    x = require_float("squareplus", x)
    # (x + r) / 2 = b / (r - x) / 2, which does not cancel for negative x.
    size = fnp.sqrt(x * x + b) + fnp.where(x > 0, x, -x)
    return fnp.where(x > 0, 0.5 * size, (0.5 * b) / size)


def tanh(x: Value) -> Value:
    """Hyperbolic tangent.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``, in [-1, 1].

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.tanh(np.array([0.0, 100.0], np.float32)))
        [0. 1.]
    """
    return fnp.tanh(require_float("tanh", x))


def mish(x: Value) -> Value:
    """``x · tanh(softplus(x))``.

    Args:
        x: ``[...]``, float.

    Returns:
        ``[...]``.

    Source:
        Misra, *Mish: A Self Regularized Non-Monotonic Activation Function*, arXiv:1908.08681.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.mish(np.array([0.0, 1.0])).round(4))
        [0.     0.8651]
    """
    x = require_float("mish", x)
    return x * fnp.tanh(softplus(x))


def glu(x: Value, axis: int = -1) -> Value:
    """First half of ``x`` along ``axis``, times the sigmoid of the second half.

    Args:
        x: ``[..., 2n, ...]``, float.
        axis: The axis to halve.

    Returns:
        ``[..., n, ...]``.

    Raises:
        ShapeError: The axis has an odd size.

    Source:
        Dauphin et al., *Language Modeling with Gated Convolutional Networks*, arXiv:1612.08083.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.glu(np.array([3.0, 0.0], np.float32)))
        [1.5]
    """
    x = require_float("glu", x)
    if not -x.ndim <= axis < x.ndim:
        raise AxisError(f"glu: axis {axis} does not fit x {list(x.shape)}")
    size = x.shape[axis]
    if size % 2:
        message = f"glu: axis {axis} of x must have an even size, got x {list(x.shape)}"
        raise ShapeError(message)
    first, second = fnp.split(x, 2, axis=axis)
    return first * lax.logistic(second)
