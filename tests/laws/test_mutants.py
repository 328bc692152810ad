"""Faults planted in the rules of primitives: the laws must catch each of them.

A primitive is immutable, so a fault is set past that and taken back; nothing else may keep a
copy of the rule.
"""

import contextlib

import numpy as np
import pytest

from fgrad import lax
from fgrad.core import basis
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Pullback, primitive
from fgrad.lax.linalg.lu import permuted
from fgrad.testing import check_primitive, laws
from fgrad.testing.functions import inexact_only


@contextlib.contextmanager
def planted(name, field, fault):
    """Within the block, the rule `field` of a primitive is ``fault(rule)``."""
    prim = primitive(name)
    rule = getattr(prim, field)
    object.__setattr__(prim, field, fault(rule))
    try:
        yield prim
    finally:
        object.__setattr__(prim, field, rule)


def scaled(x, factor):
    return basis.linear_mul(x, basis.scalar(factor, x.dtype))


def jvp_fault(change):
    """The tangent that a jvp rule returns, changed."""

    def fault(rule):
        def jvp(primals, tangents, **params):
            out, tangent = rule(primals, tangents, **params)
            return out, None if tangent is None else change(tangent)

        return jvp

    return fault


def vjp_fault(change):
    """The cotangents that a vjp rule returns, changed."""

    def fault(rule):
        def backward(needed, residuals, ct, params):
            return change(list(rule.backward(needed, residuals, ct, params)))

        return Pullback(rule.forward, backward, rule.select)

    return fault


def jvp_result_fault(i, change):
    """The tangent of result i of several that a jvp rule returns, changed."""

    def fault(rule):
        def jvp(primals, tangents, **params):
            outs, tangents = rule(primals, tangents, **params)
            changed = [change(t) if k == i and t is not None else t for k, t in enumerate(tangents)]
            return outs, changed

        return jvp

    return fault


def a_millionth_more(t):
    return scaled(t, 1 + 1e-6)


def without_exchanges(rule):
    """The jvp of `lu` at the operand's rows as if they were in the order of the pivots."""

    def jvp(primals, tangents):
        (factors, pivots, order), _ = rule(primals, (None,))
        (x,) = primals
        sorted_x = permuted(x, order)
        _, moved = rule((sorted_x,), tangents)
        return [factors, pivots, order], moved

    return jvp


def each(change):
    return lambda cts: [None if c is None else change(c) for c in cts]


def eager_fault(change):
    return lambda rule: lambda xp, *args, **params: change(rule(xp, *args, **params))


def one_element(x):
    """The first element of an array, doubled; what a wrong index would do."""
    first = np.zeros(x.shape, bool)
    if x.size:
        first.reshape(-1)[0] = True
    return basis.select_n(as_value(first), x, scaled(x, 2.0))


def one_element_of_value(x):
    x = np.array(x)
    if x.size:
        x.reshape(-1)[-1] += np.asarray(1, x.dtype)
    return x


def without_broadcast_sum(rule):
    """Of a broadcast operand: one of the cotangents that should have been summed."""

    def backward(needed, residuals, ct, params):
        cts = list(rule.backward(needed, residuals, ct, params))
        return [None if c is None else first_of(ct, c.shape) for c in cts]

    return Pullback(rule.forward, backward, rule.select)


def first_of(ct, shape):
    ct = lax.slice(ct, (0,) * ct.ndim, limits(ct.shape, shape)) if ct.size else ct
    return basis.unbroadcast(ct, shape)


def limits(full, shape):
    padded = (1,) * (len(full) - len(shape)) + shape
    return tuple(min(n, m) for n, m in zip(full, padded, strict=True))


def swapped_results(cts):
    return cts[::-1] if all(c is not None for c in cts) and cts[0].shape == cts[1].shape else cts


def dropped(cts):
    """Only the first of several cotangents survives."""
    return [cts[0], *(None for _ in cts[1:])]


def batch_fault(change):
    def fault(rule):
        def batch(axis, args, dims, **params):
            out, dim = rule(axis, args, dims, **params)
            return change(axis, out, dim)

        return batch

    return fault


def wrong_batch_axis(_axis, out, dim):
    """The batch is said to be at another axis of the same length, where there is one."""
    for other, n in enumerate(out.shape):
        if other != dim and n == out.shape[dim]:
            return out, other
    return out, dim


def reversed_batch(_axis, out, dim):
    rows = np.arange(out.shape[dim])[::-1]
    order = tuple(int(i) for i in rows)
    parts = [lax.slice_in_dim(out, i, i + 1, axis=dim) for i in order]
    return (lax.concatenate(parts, dim) if len(parts) > 1 else out), dim


def transpose_fault(change):
    def fault(rule):
        return lambda ct, *args, **params: change(list(rule(ct, *args, **params)))

    return fault


MUTANTS = {
    "tanh: sign of the jvp": ("tanh", "jvp", jvp_fault(basis.neg)),
    "exp: jvp 1 % too large": ("exp", "jvp", jvp_fault(lambda t: scaled(t, 1.01))),
    "sin: sign of the vjp": ("sin", "vjp", vjp_fault(each(basis.neg))),
    "log: vjp 1 % too small": ("log", "vjp", vjp_fault(each(lambda c: scaled(c, 0.99)))),
    "mul: operands of the vjp swapped": ("mul", "vjp", vjp_fault(swapped_results)),
    "mul: cotangent dropped": ("mul", "vjp", vjp_fault(dropped)),
    "add: broadcast sum missing": ("add", "vjp", without_broadcast_sum),
    "dot_general: one wrong element of the vjp": (
        "dot_general", "vjp", vjp_fault(each(one_element)),
    ),
    "dot_general: one wrong element of the transpose": (
        "dot_general", "transpose", transpose_fault(each(one_element)),
    ),
    "reduce_sum: one wrong element of the value": (
        "reduce_sum", "eager", eager_fault(one_element_of_value),
    ),
    "reduce_sum: transpose scaled": (
        "reduce_sum", "transpose", transpose_fault(each(lambda c: scaled(c, 1.01))),
    ),
    "sqrt: value 1e-14 off": ("sqrt", "eager", eager_fault(lambda y: y * (1 + 1e-14))),
    "mul: wrong batch axis": ("mul", "batch", batch_fault(wrong_batch_axis)),
    "tanh: batch reversed": ("tanh", "batch", batch_fault(reversed_batch)),
    "transpose: jvp one wrong element": ("transpose", "jvp", jvp_fault(one_element)),
    "conj: missing conjugate in the vjp": ("conj", "vjp", vjp_fault(each(lax.conj))),
    "cholesky: jvp 1e-6 too large": ("cholesky", "jvp", jvp_fault(a_millionth_more)),
    "lu: rows not exchanged in the jvp": ("lu", "jvp", without_exchanges),
    "qr: sign of the jvp of Q": ("qr", "jvp", jvp_result_fault(0, basis.neg)),
    "svd: jvp of U 1e-6 too large": ("svd", "jvp", jvp_result_fault(1, a_millionth_more)),
    "eigh: sign of the jvp of the vectors": ("eigh", "jvp", jvp_result_fault(0, basis.neg)),
    "eig: jvp of values 1e-6 too large": ("eig", "jvp", jvp_result_fault(0, a_millionth_more)),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_the_laws_catch_a_planted_fault(mutant):
    with planted(*mutant) as prim, pytest.raises(AssertionError):
        check_primitive(prim, examples=8, shrink=False)


def test_the_adjoint_law_sees_an_error_of_a_derivative_that_cancels():
    rng = np.random.default_rng(0)
    arrays = [[rng.uniform(-1, 1, 3)] for _ in range(3)]
    laws.law_adjoint(lambda x: [lax.sub(x, x)], *arrays)
    fault = vjp_fault(lambda cts: [scaled(cts[0], 1 + 1e-14), cts[1]])
    with planted("sub", "vjp", fault), pytest.raises(AssertionError, match="Jᵀct"):
        laws.law_adjoint(lambda x: [lax.sub(x, x)], *arrays)


def test_the_adjoint_law_allows_for_the_rounding_of_a_derivative_that_cancels():
    # U[0, 2] does not depend on A[0, 1]; the jvp rule finds so by subtracting equal terms.
    x = np.array([[3.6, 0.3, 0.0], [0.0, 4.8, 0.9], [0.6, 0.7, 5.5]])
    v, ct = np.zeros((3, 3)), np.zeros((3, 3))
    v[0, 1] = ct[0, 2] = 1.0
    f = inexact_only(laws.prim_call(primitive("lu"), {}))
    laws.law_adjoint(f, [x], [v], [ct])


def test_a_fault_is_taken_back():
    with planted("tanh", "jvp", jvp_fault(basis.neg)):
        pass
    check_primitive(primitive("tanh"), examples=2)
