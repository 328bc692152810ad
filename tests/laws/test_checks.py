"""The public checks pass what is right and refuse what is wrong."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import ArgumentError, DtypeError
from fgrad.testing import check_custom_vjp, check_grads, check_vmap


def smooth(tree, scale):
    return {"y": lax.sin(tree["a"]) * scale, "z": [lax.exp(tree["b"])]}


TREE = {"a": np.array([0.3, -0.7]), "b": np.array(0.2)}


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev")], ids="+".join)
def test_check_grads_passes_right_derivatives_of_pytrees(modes):
    check_grads(smooth, (TREE, 2.0), order=3, modes=modes)


def test_check_grads_holds_integers_fixed():
    check_grads(lambda x, n: x * n.astype(np.float64), (np.array([1.0, 2.0]), np.array([3, 4])))


def wrong_vjp(factor):
    f = fg.custom_vjp(lambda x: lax.sin(x))
    f.defvjp(lambda x: (lax.sin(x), x), lambda x, ct: (ct * lax.cos(x) * factor,))
    return f


def wrong_jvp():
    f = fg.custom_jvp(lambda x: lax.sin(x))
    f.defjvp(lambda ps, ts: (lax.sin(ps[0]), ts[0] * lax.cos(ps[0]) * 1.0001))
    return f


@pytest.mark.parametrize("modes", [("fwd",), ("rev",)], ids="+".join)
def test_check_grads_refuses_a_wrong_rule(modes):
    with pytest.raises(AssertionError, match="differences"):
        check_grads(wrong_jvp(), (np.array([0.3]),), modes=modes)


def test_check_grads_refuses_a_jump():
    with pytest.raises(AssertionError, match="not smooth"):
        check_grads(lax.floor, (np.ones(2),), order=1)


def test_check_grads_needs_double_precision():
    with pytest.raises(DtypeError, match="float64"):
        check_grads(lax.sin, (np.ones(2, np.float32),))


def test_check_grads_needs_something_to_differentiate():
    with pytest.raises(ArgumentError, match="no argument"):
        check_grads(lambda n: n, (np.ones(2, np.int32),))


def test_check_grads_knows_two_modes():
    with pytest.raises(ArgumentError, match="fwd"):
        check_grads(lax.sin, (np.ones(2),), modes=("forward",))


def test_check_custom_vjp_passes_right_rules():
    check_custom_vjp(wrong_vjp(1.0), (np.array([0.3, 0.4]),))


def test_check_custom_vjp_refuses_a_wrong_backward_rule():
    with pytest.raises(AssertionError, match="differences"):
        check_custom_vjp(wrong_vjp(1.0001), (np.array([0.3, 0.4]),))


def test_check_custom_vjp_refuses_a_forward_rule_with_another_value():
    f = fg.custom_vjp(lambda x: lax.sin(x))
    f.defvjp(lambda x: (lax.sin(x) + 1e-9, x), lambda x, ct: (ct * lax.cos(x),))
    with pytest.raises(AssertionError, match="the value"):
        check_custom_vjp(f, (np.array([0.3, 0.4]),))


def test_check_vmap_passes_pytrees():
    check_vmap(lambda t, s: {"y": t["a"] * s}, ({"a": np.ones((3, 2))}, np.array(2.0)), (-1, None))


def test_check_vmap_refuses_a_function_that_sees_the_batch():
    seen = []

    def f(x):
        seen.append(x)
        return x * float(len(seen))

    with pytest.raises(AssertionError, match="vmap = loop"):
        check_vmap(f, (np.ones((3, 2)),))


def test_check_vmap_needs_one_length():
    with pytest.raises(ArgumentError, match="one length"):
        check_vmap(lax.add, (np.ones(2), np.ones(3)))
