"""Losses of classifiers, with the names of torch.nn.functional. Classes stand on the last axis.

``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``.
"""

from typing import Any, Literal

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.lax.cross_entropy import softmax_cross_entropy
from fgrad.nn.activation import log_sigmoid, softplus
from fgrad.nn.loss import Reduction, reduced, same_shape

Value = Any


def cross_entropy(
    logits: Value,
    target: Value,
    weight: Value | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Value:
    """``-Σ_c t_c · w_c · log softmax(logits)_c``, the classes ``c`` on the last axis.

    Args:
        logits: ``[..., classes]``, float.
        target: ``[...]``, integer classes; or ``[..., classes]``, float probabilities.
        weight: ``[classes]``, factor of each class, or None. The mean over integer targets is
            weighted by it.
        ignore_index: Integer targets of this value count neither in the sum nor in the mean.
        reduction: How to combine the rows.
        label_smoothing: Share, in [0, 1], of the target that is spread evenly over all classes.

    Returns:
        Scalar, or ``[...]`` for ``"none"``. The mean over ignored rows only is NaN.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: ``logits`` are no floats.
        IndexOutOfBoundsError: An integer target is neither a class nor ``ignore_index``.
        ArgumentError: An option has a value that makes no sense.

    Source:
        Szegedy et al., *Rethinking the Inception Architecture*, arXiv:1512.00567, section 7, for
        the smoothing.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> logits = np.zeros((2, 4), np.float32)
        >>> print(nn.cross_entropy(logits, np.array([3, -100])).round(4))
        1.3863
    """
    if not 0 <= label_smoothing <= 1:
        message = f"cross_entropy: label_smoothing must lie in [0, 1], got {label_smoothing}"
        raise ArgumentError(message)
    logits, target = fnp.asarray(logits), fnp.asarray(target)
    if not fnp.issubdtype(logits.dtype, fnp.floating):
        message = (
            f"cross_entropy needs float logits, got {logits.aval} with target {target.aval}; the "
            f"logits come first"
        )
        raise DtypeError(message)
    _check_weight("cross_entropy", weight, logits)
    share = label_smoothing / logits.shape[-1]
    if not fnp.issubdtype(target.dtype, fnp.integer):
        same_shape("cross_entropy", logits, target)
        smooth = (1 - label_smoothing) * target + share
        # torch divides by the number of rows here, whatever the weights.
        return reduced("cross_entropy", _dense(logits, smooth, weight), reduction)
    index, kept, row_weight = _counted("cross_entropy", logits, target, weight, ignore_index)
    losses = softmax_cross_entropy(logits, index) * row_weight
    if label_smoothing:
        spread = _dense(logits, fnp.full_like(logits, share), weight)
        losses = (1 - label_smoothing) * losses + spread
    return _weighted_mean("cross_entropy", losses, kept, row_weight, reduction)


def _dense(logits: Value, target: Value, weight: Value | None) -> Value:
    """``-Σ_c t_c · w_c · log softmax(logits)_c``."""
    weighted = target if weight is None else target * fnp.asarray(weight)
    dtype = fnp.result_type(logits, weighted)
    return softmax_cross_entropy(logits.astype(dtype), weighted.astype(dtype))


def nll_loss(
    log_probs: Value,
    target: Value,
    weight: Value | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Value:
    """``-w_t · log_probs_t`` for each row, the classes on the last axis.

    Args:
        log_probs: ``[..., classes]``, float.
        target: ``[...]``, integer classes.
        weight: ``[classes]``, factor of each class, or None; the mean is weighted by it.
        ignore_index: Targets of this value count neither in the sum nor in the mean.
        reduction: How to combine the rows.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: ``target`` is not of an integer dtype.
        IndexOutOfBoundsError: A target is neither a class nor ``ignore_index``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.nll_loss(np.array([[-1.0, -3.0]]), np.array([1])))
        3.0
    """
    log_probs, target = fnp.asarray(log_probs), fnp.asarray(target)
    _check_weight("nll_loss", weight, log_probs)
    weighted = log_probs if weight is None else log_probs * fnp.asarray(weight)
    index, kept, row_weight = _counted("nll_loss", log_probs, target, weight, ignore_index)
    picked = -lax.take_along_axis(weighted, index[..., None], -1)[..., 0]
    return _weighted_mean("nll_loss", picked, kept, row_weight, reduction)


def _check_weight(name: str, weight: Value | None, scores: Value) -> None:
    if weight is not None and tuple(fnp.shape(weight)) != tuple(scores.shape[-1:]):
        message = (
            f"{name}: weight must be [{scores.shape[-1]}], one for each class, "
            f"got {list(fnp.shape(weight))}"
        )
        raise ShapeError(message)


def _counted(
    name: str, scores: Value, target: Value, weight: Value | None, ignore_index: int
) -> tuple[Value, Value, Value]:
    """The class of each row (0 where it is ignored), which rows count, and their weights."""
    if not fnp.issubdtype(target.dtype, fnp.integer):
        message = f"{name} needs integer classes, got target {target.dtype}{list(target.shape)}"
        raise DtypeError(message)
    if target.shape != scores.shape[:-1]:
        message = (
            f"{name}: integer target must be {list(scores.shape[:-1])}, the shape of the scores "
            f"{list(scores.shape)} less the classes, got {list(target.shape)}"
        )
        raise ShapeError(message)
    kept = target != ignore_index
    index = fnp.where(kept, target, 0)
    if weight is None:
        return index, kept, kept.astype(scores.dtype)
    # From lax, which takes -1 for what it is: no class, and not the last one.
    row_weight = lax.take(fnp.asarray(weight).astype(scores.dtype), index, 0)
    return index, kept, fnp.where(kept, row_weight, fnp.zeros_like(row_weight))


def _weighted_mean(
    name: str, losses: Value, kept: Value, row_weight: Value, reduction: str
) -> Value:
    losses = fnp.where(kept, losses, fnp.zeros_like(losses))
    if reduction == "mean":
        return fnp.sum(losses) / fnp.sum(row_weight)
    return reduced(name, losses, reduction)


def binary_cross_entropy(
    probs: Value, target: Value, weight: Value | None = None, reduction: Reduction = "mean"
) -> Value:
    """``-w · (t · log p + (1 - t) · log(1 - p))``.

    Args:
        probs: ``[...]``, float, in [0, 1]. The logarithms are held at −100, so that 0 and 1 give
            finite losses; a logarithm that is held has derivative 0. Prefer logits.
        target: ``[...]``, probabilities.
        weight: Factor of each element; broadcasts to ``[...]``. None for ones.
        reduction: How to combine the elements.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.binary_cross_entropy(np.array([0.5]), np.array([1.0])).round(4))
        0.6931
    """
    probs, target = same_shape("binary_cross_entropy", probs, target)
    losses = -(target * _bounded_log(probs) + (1 - target) * _bounded_log(1 - probs))
    return reduced("binary_cross_entropy", _times(losses, weight), reduction)


def _bounded_log(x: Value) -> Value:
    """``max(log x, -100)``, constant below."""
    tiny = x < 3.7e-44  # exp(-100)
    return fnp.where(tiny, fnp.full_like(x, -100.0), fnp.log(fnp.where(tiny, 1, x)))


def _times(losses: Value, weight: Value | None) -> Value:
    return losses if weight is None else losses * weight


def binary_cross_entropy_with_logits(
    logits: Value,
    target: Value,
    weight: Value | None = None,
    reduction: Reduction = "mean",
    pos_weight: Value | None = None,
) -> Value:
    """``-w · (c · t · log σ(x) + (1 - t) · log(1 - σ(x)))``, σ the sigmoid, without overflow.

    Args:
        logits: ``[...]``, float.
        target: ``[...]``, probabilities.
        weight: Factor of each element; broadcasts to ``[...]``. None for ones.
        reduction: How to combine the elements.
        pos_weight: Factor ``c`` of the positive part; broadcasts to ``[...]``. None for ones.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> loss = nn.binary_cross_entropy_with_logits(np.array([-1000.0]), np.array([1.0]))
        >>> print(loss)
        1000.0
    """
    logits, target = same_shape("binary_cross_entropy_with_logits", logits, target)
    positive = -target * log_sigmoid(logits)
    losses = _times(positive, pos_weight) + (1 - target) * softplus(logits)
    return reduced("binary_cross_entropy_with_logits", _times(losses, weight), reduction)


def kl_div(
    log_probs: Value,
    target: Value,
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
    *,
    log_target: bool = False,
) -> Value:
    """``t · (log t - log_probs)``, the divergence of the prediction from the target.

    Args:
        log_probs: ``[...]``, float, logarithms of the predicted probabilities.
        target: ``[...]``, probabilities; 0 gives 0.
        reduction: How to combine the elements. ``"batchmean"`` divides the sum by the size of axis
            0, which is the divergence; ``"mean"`` divides by the number of elements.
        log_target: ``target`` holds logarithms.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Source:
        Kullback and Leibler, *On Information and Sufficiency*, 1951.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.kl_div(np.log(np.array([0.5, 0.5])), np.array([1.0, 0.0]), "sum").round(4))
        0.6931
    """
    log_probs, target = same_shape("kl_div", log_probs, target)
    if log_target:
        losses = fnp.exp(target) * (target - log_probs)
    else:
        positive = target > 0
        log = fnp.log(fnp.where(positive, target, fnp.ones_like(target)))
        losses = fnp.where(positive, target * (log - log_probs), fnp.zeros_like(target))
    if reduction == "batchmean":
        return fnp.sum(losses) / losses.shape[0]
    return reduced("kl_div", losses, reduction)
