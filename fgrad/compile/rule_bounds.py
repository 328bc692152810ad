"""Whether something has computed what the eager rule of an equation does, within rounding.

The rule is run in float64 on the operands that were given. What a primitive may be off by is what
its `Spec` states: units in the last place, or a multiple of the sum of the sizes of its terms. Of a
sum that is linear in its operands, that sum is the rule on their absolute values, and the rule on
ones counts the terms.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.compile.bounds import difference
from fgrad.core import dtypes
from fgrad.core.ir import Eqn
from fgrad.core.primitive import Spec

Array = np.ndarray[Any, Any]
_WIDE = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}


def rule_fault(
    eqn: Eqn, operands: Sequence[Array], found: Sequence[Array], base: Array | None = None
) -> str | None:
    """What is wrong with results, or None.

    Args:
        eqn: The equation.
        operands: Its operands, as they were.
        found: Its results.
        base: What its one result was added to.
    """
    wide = [_widened(x) for x in operands]
    with np.errstate(all="ignore"):
        wanted = _run(eqn, wide)
        errors = _errors(eqn, wide, wanted, base)
        if base is not None:
            wanted = [wanted[0] + _widened(base)]
        for k, (y, want, error) in enumerate(zip(found, wanted, errors, strict=True)):
            if y.shape != want.shape:
                return f"result {k}: got the shape {list(y.shape)}, expected {list(want.shape)}"
            off = difference(_widened(y), _fitting(want, y.dtype), error)
            if off is not None:
                return f"result {k}, {off}"
    return None


def same_bits(found: Array, wanted: Array) -> str | None:
    """The first element of which two arrays do not have the same value, or None; NaNs are equal."""
    exact = np.zeros(np.shape(wanted))
    with np.errstate(all="ignore"):
        return difference(_widened(np.asarray(found)), _widened(np.asarray(wanted)), exact)


def _kind(dtype: Any) -> str:
    return "c" if dtypes.is_complex(dtype) else "f" if dtypes.is_float(dtype) else "i"


def _widened(x: Array) -> Array:
    wide = _WIDE.get(_kind(x.dtype))
    return x if wide is None else x.astype(wide)


def _run(eqn: Eqn, operands: Sequence[Array]) -> list[Array]:
    """The results of the rule in the dtypes of its operands, floats in float64."""
    prim, params = eqn.primitive, dict(eqn.params)
    if params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = _WIDE.get(_kind(params["preferred_element_type"]))
    out = prim.eager(np, *operands, **params)
    return [np.asarray(y) for y in (out if prim.multiple_results else (out,))]


def _errors(
    eqn: Eqn, operands: list[Array], wanted: list[Array], base: Array | None
) -> list[Array]:
    """How far off each element of each result may be; infinite where nobody knows."""
    spec = eqn.primitive.spec
    assert isinstance(spec, Spec), f"{eqn.primitive.name} states no bound"
    types = [v.aval.dtype for v in eqn.outputs]
    if spec.ulps is not None:
        pairs = zip(wanted, types, strict=True)
        return [np.where(np.isinf(y), 0.0, _error(t, y, y, spec.ulps)) for y, t in pairs]
    if eqn.primitive.linear is not None:
        which = eqn.primitive.linear_in or range(len(operands))
        sizes, ones = list(operands), list(operands)
        for k in which:
            sizes[k] = np.abs(operands[k]).astype(operands[k].dtype)
            ones[k] = np.ones_like(operands[k])
        terms, counts = _run(eqn, sizes), [np.abs(c) for c in _run(eqn, ones)]
    else:
        assert spec.terms is not None, f"{eqn.primitive.name} states no bound"
        given = spec.terms(*operands, **eqn.params)
        terms = list(given) if eqn.primitive.multiple_results else [given]
        counts = [np.asarray(max(x.size for x in operands))] * len(terms)
    if base is not None:
        terms = [terms[0] + np.abs(_widened(base))]
    return [
        _error(t, y, size, n) for t, y, size, n in zip(types, wanted, terms, counts, strict=True)
    ]


def _error(dtype: Any, value: Array, terms: Array, count: Any) -> Array:
    """What is off after so many operations on terms of that size in all."""
    if _kind(dtype) == "i":
        return np.zeros(np.shape(value))
    info, terms = dtypes.finfo(dtype), np.abs(terms)
    # Narrow floats are added up in float32, and rounded once.
    inner = info if info.eps < 1e-5 else np.finfo(np.float32)
    operations = (count + 2.0) * (4.0 if _kind(dtype) == "c" else 1.0)
    error = operations * (float(inner.eps) * terms + float(inner.smallest_subnormal))
    if inner is not info:
        error = error + float(info.eps) * np.abs(value) + float(info.smallest_subnormal)
    return np.where(terms > float(inner.max), np.inf, error)


def _fitting(x: Array, dtype: Any) -> Array:
    """Infinity where a value does not fit the dtype."""
    if _kind(dtype) != "f" or dtype.itemsize == 8:
        return x
    return np.where(np.abs(x) > float(dtypes.finfo(dtype).max), np.copysign(np.inf, x), x)
