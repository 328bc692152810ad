"""Initialisers of parameters, with the names and meaning of jax.nn.initializers.

An initialiser is a function ``init(key, shape, dtype)``. ``zeros`` and ``ones`` are initialisers;
the other names make one from their options. Shapes are read as ``[..., in, out]`` unless
``in_axis`` and ``out_axis`` say otherwise; all other axes are the receptive field.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import fgrad.numpy as fnp
from fgrad import random
from fgrad.core import dtypes
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.numpy.creation import settled

Value = Any
Initializer = Callable[..., Value]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["truncated_normal", "normal", "uniform"]

# Standard deviation of a standard normal truncated to [-2, 2].
_TRUNCATED_STDDEV = 0.87962566103423978


def zeros(_key: Value, shape: Sequence[int], dtype: Any = None) -> Value:
    """Zeros; the key is not used.

    Args:
        shape: Shape of the result.
        dtype: Its dtype; the default float where None.

    Returns:
        ``[*shape]``.

    Example:
        >>> import fgrad.nn as nn
        >>> print(nn.initializers.zeros(None, (2,)))
        [0. 0.]
    """
    return settled(fnp.zeros(shape, dtype))


def ones(_key: Value, shape: Sequence[int], dtype: Any = None) -> Value:
    """Ones; the key is not used.

    Args:
        shape: Shape of the result.
        dtype: Its dtype; the default float where None.

    Returns:
        ``[*shape]``.

    Example:
        >>> import fgrad.nn as nn
        >>> print(nn.initializers.ones(None, (2,)))
        [1. 1.]
    """
    return settled(fnp.ones(shape, dtype))


def constant(value: float | Value, dtype: Any = None) -> Initializer:
    """An initialiser that gives ``value`` everywhere.

    Args:
        value: A scalar, or an array that broadcasts to the shape.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``; the key is not used.

    Example:
        >>> import fgrad.nn as nn
        >>> print(nn.initializers.constant(0.5)(None, (2,)))
        [0.5 0.5]
    """

    def init(_key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        kind = dtypes.default_float() if dtype is None else dtype
        return settled(fnp.full(shape, value, kind))

    return init


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser that draws from [0, scale).

    Args:
        scale: Upper end.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> x = nn.initializers.uniform(2.0)(fg.random.key(0), (1000,))
        >>> bool((x >= 0).all() and (x < 2).all())
        True
    """

    def init(key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        return random.uniform(key, tuple(shape), dtype) * scale

    return init


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser that draws from a normal distribution of mean 0.

    Args:
        stddev: Its standard deviation.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> x = nn.initializers.normal(2.0)(fg.random.key(0), (10000,))
        >>> bool(abs(x.std() - 2) < 0.1)
        True
    """

    def init(key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        return random.normal(key, tuple(shape), dtype) * stddev

    return init


def truncated_normal(
    stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """An initialiser that draws from a normal distribution cut off on both sides.

    Args:
        stddev: Standard deviation before the cut.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.
        lower: Lower end, in standard deviations.
        upper: Upper end, in standard deviations.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> x = nn.initializers.truncated_normal(1.0)(fg.random.key(0), (1000,))
        >>> bool(abs(x).max() <= 2)
        True
    """

    def init(key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        return random.truncated_normal(key, lower, upper, tuple(shape), dtype) * stddev

    return init


def _axes_size(shape: Sequence[int], axes: int | Sequence[int]) -> int:
    return math.prod(shape[a] for a in ((axes,) if isinstance(axes, int) else axes))


def compute_fans(
    shape: Sequence[int],
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
    batch_axis: int | Sequence[int] = (),
) -> tuple[float, float]:
    """Inputs that reach each output of a weight, and outputs that each input reaches.

    Args:
        shape: Shape of the weight.
        in_axis: Axis or axes of the inputs.
        out_axis: Axis or axes of the outputs.
        batch_axis: Axes of independent weights, which do not count.

    Returns:
        ``(fan_in, fan_out)``; axes not named (the receptive field) multiply both.

    Raises:
        ShapeError: ``shape`` has fewer than two axes.

    Example:
        >>> import fgrad.nn as nn
        >>> nn.initializers.compute_fans((8, 4, 3, 3), in_axis=1, out_axis=0)
        (36.0, 72.0)
    """
    if len(shape) < 2:
        message = (
            f"an initialiser that scales by fans needs at least two axes, got shape {list(shape)}; "
            "use normal or uniform, or give the shape an axis of size 1"
        )
        raise ShapeError(message)
    in_size, out_size = _axes_size(shape, in_axis), _axes_size(shape, out_axis)
    field = math.prod(shape) / in_size / out_size / _axes_size(shape, batch_axis)
    return in_size * field, out_size * field


def variance_scaling(
    scale: float,
    mode: Mode,
    distribution: Distribution,
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
    batch_axis: int | Sequence[int] = (),
    dtype: Any = None,
) -> Initializer:
    """An initialiser of variance ``scale / n``, where ``n`` is a count of connections.

    Args:
        scale: Positive factor.
        mode: ``n`` is the ``"fan_in"``, the ``"fan_out"``, their mean ``"fan_avg"`` or their
            geometric mean ``"fan_geo_avg"``.
        distribution: ``"normal"``, ``"truncated_normal"`` (at two standard deviations, with the
            variance as stated after the cut) or ``"uniform"`` (symmetric about 0).
        in_axis: Axis or axes of the inputs.
        out_axis: Axis or axes of the outputs.
        batch_axis: Axes of independent weights.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``.

    Raises:
        ArgumentError: ``mode`` or ``distribution`` is not one of those.

    Source:
        Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural
        networks*, AISTATS 2010; He et al., arXiv:1502.01852.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        >>> bool(abs(init(fg.random.key(0), (100, 200)).std() - 0.1) < 0.01)
        True
    """
    if mode not in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        message = (
            "variance_scaling: mode is one of 'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg'; "
            f"got {mode!r}"
        )
        raise ArgumentError(message)
    if not scale >= 0:
        raise ArgumentError(f"variance_scaling: scale must not be negative, got {scale}")
    if distribution not in ("truncated_normal", "normal", "uniform"):
        message = (
            "variance_scaling: distribution is one of 'truncated_normal', 'normal', 'uniform'; "
            f"got {distribution!r}"
        )
        raise ArgumentError(message)

    def init(key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        fan_in, fan_out = compute_fans(shape, in_axis, out_axis, batch_axis)
        count = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[mode]
        stddev = math.sqrt(scale / count)
        if distribution == "normal":
            return random.normal(key, tuple(shape), dtype) * stddev
        if distribution == "uniform":
            bound = math.sqrt(3.0) * stddev
            return random.uniform(key, tuple(shape), dtype, -1.0, 1.0) * bound
        cut = random.truncated_normal(key, -2.0, 2.0, tuple(shape), dtype)
        return cut * (stddev / _TRUNCATED_STDDEV)

    return init


def _preset(
    name: str, scale: float, mode: Mode, distribution: Distribution, source: str
) -> Callable[..., Initializer]:
    """A named special case of ``variance_scaling``, with its own docstring."""

    def make(
        in_axis: int | Sequence[int] = -2,
        out_axis: int | Sequence[int] = -1,
        batch_axis: int | Sequence[int] = (),
        dtype: Any = None,
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""``variance_scaling({scale}, "{mode}", "{distribution}")``.

    Args:
        in_axis: Axis or axes of the inputs.
        out_axis: Axis or axes of the outputs.
        batch_axis: Axes of independent weights.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``.

    Source:
        {source}

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> nn.initializers.{name}()(fg.random.key(0), (3, 4)).shape
        (3, 4)
    """
    return make


_GLOROT = "Glorot and Bengio, AISTATS 2010."
_HE = "He et al., *Delving Deep into Rectifiers*, arXiv:1502.01852."
_LECUN = "LeCun et al., *Efficient BackProp*, 1998; Klambauer et al., arXiv:1706.02515."

glorot_uniform = _preset("glorot_uniform", 1.0, "fan_avg", "uniform", _GLOROT)
glorot_normal = _preset("glorot_normal", 1.0, "fan_avg", "truncated_normal", _GLOROT)
he_uniform = _preset("he_uniform", 2.0, "fan_in", "uniform", _HE)
he_normal = _preset("he_normal", 2.0, "fan_in", "truncated_normal", _HE)
lecun_uniform = _preset("lecun_uniform", 1.0, "fan_in", "uniform", _LECUN)
lecun_normal = _preset("lecun_normal", 1.0, "fan_in", "truncated_normal", _LECUN)
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


def orthogonal(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initialiser of matrices with orthonormal columns (or rows, whichever are fewer).

    The shape is read as a matrix, with ``column_axis`` against all other axes. Its distribution is
    uniform over such matrices.

    Args:
        scale: Factor of the result.
        column_axis: Axis of the columns.
        dtype: dtype of the result unless ``init`` is given one; the default float where None.

    Returns:
        ``init(key, shape, dtype)``.

    Raises:
        ShapeError: The shape has fewer than two axes.

    Source:
        Saxe, McClelland and Ganguli, arXiv:1312.6120; Mezzadri, arXiv:math-ph/0609050.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> q = nn.initializers.orthogonal()(fg.random.key(0), (4, 2))
        >>> print(abs(q.T @ q).round(4))
        [[1. 0.]
         [0. 1.]]
    """

    def init(key: Value, shape: Sequence[int], dtype: Any = dtype) -> Value:
        shape = tuple(shape)
        if len(shape) < 2:
            message = f"orthogonal: needs at least two axes, got shape {list(shape)}"
            raise ShapeError(message)
        columns = shape[column_axis]
        rest = math.prod(shape) // columns
        tall = (max(columns, rest), min(columns, rest))
        q, r = fnp.linalg.qr(random.normal(key, tall, dtype))
        # The signs of the diagonal make the factorisation unique, hence q uniform.
        d = fnp.diagonal(r)
        q = q * (d / fnp.abs(d))
        by_column = q if columns > rest else q.T
        others = list(shape)
        del others[column_axis]
        return scale * fnp.moveaxis(by_column.reshape((columns, *others)), 0, column_axis)

    return init
