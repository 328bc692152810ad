"""Calls of jitted functions with trees of arrays find their program at once, and only theirs."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import BufferDonatedError, DonationError


@fg.jit
def total(params, x):
    return {"sum": fnp.sum(params["w"] * x) + params["b"][0], "x": x}


def arguments(n=3, dtype=np.float32):
    w = fnp.asarray(np.arange(n, dtype=dtype))
    return {"w": w, "b": [fnp.asarray(dtype(1)), fnp.asarray(dtype(2))]}, w


def test_a_call_like_one_before_runs_its_program():
    total.clear_cache()
    for k in range(4):
        out = total(*arguments())
        assert float(out["sum"]) == 6.0
        assert total.cache_info()[:2] == (k, 1)
    assert len(total._sites) == 1


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda p, x: total(*arguments(4)), 15.0),
        (lambda p, x: total(*arguments(dtype=np.float64)), 6.0),
        (lambda p, x: total({**p, "b": tuple(p["b"])}, x), 6.0),
        (lambda p, x: total({"b": p["b"], "w": p["w"]}, x), 6.0),
        (lambda p, x: total({**p, "b": [2.0, 3.0]}, x), 7.0),
        (lambda p, x: total(p, np.asarray(x)), 6.0),
        (lambda p, x: total(params=p, x=x), 6.0),
    ],
)
def test_other_calls_are_told_apart(change, value):
    args = arguments()
    for _ in range(3):
        total(*args)
    assert float(change(*args)["sum"]) == value
    assert float(total(*args)["sum"]) == 6.0


def test_weak_types_are_told_apart():
    f = fg.jit(lambda t: t["x"] * t["y"])
    y = fnp.asarray(np.float16(2))
    strong, weak = fnp.asarray(np.float32(3)), fg.jit(lambda: fnp.asarray(3.0))()
    results = [f({"x": x, "y": y}).dtype for x in (strong, weak, strong, weak)]
    assert results == [fnp.promote_types(x.aval.dtype, np.float16) if x is strong
                       else (x * y).dtype for x in (strong, weak, strong, weak)]  # fmt: skip


def test_configuration_is_told_apart():
    f = fg.jit(lambda t: fnp.log(t["x"]))
    x = {"x": fnp.asarray([-1.0])}
    f(x), f(x)
    with fg.debug_nans(), pytest.raises(FloatingPointError):
        f(x)


def test_results_share_no_memory_with_arguments():
    p, x = arguments()
    for _ in range(3):
        out = total(p, x)
    assert not np.shares_memory(np.asarray(out["x"]), np.asarray(x))


def test_closed_over_arrays_and_transformations_go_with_it():
    held = fnp.arange(3.0)
    f = fg.jit(lambda t: fnp.sum(held * t["x"] ** 2))
    x = {"x": fnp.asarray([1.0, 2.0, 3.0])}
    for _ in range(3):
        assert float(f(x)) == 22.0
        np.testing.assert_array_equal(fg.grad(f)(x)["x"], [0.0, 4.0, 12.0])
    batch = {"x": fnp.stack([x["x"], 2 * x["x"]])}
    np.testing.assert_array_equal(fg.vmap(f)(batch), [22.0, 88.0])


def test_donated_trees_are_given_away_once():
    step = fg.jit(lambda s, g: {"w": s["w"] - g["w"]}, donate_argnums=0)
    state, g = {"w": fnp.arange(3.0) + 0}, {"w": fnp.ones(3)}
    for k in range(1, 4):
        before, state = state, step(state, g)
        np.testing.assert_array_equal(state["w"], np.arange(3.0) - k)
        with pytest.raises(BufferDonatedError):
            step(before, g)
    with pytest.raises(DonationError):
        step(state, state)


def test_keys_are_used_once_at_sites_too():
    f = fg.jit(lambda t: fg.random.normal(t["key"], (2,)))
    keys = fg.random.split(fg.random.key(0), 3)
    for k in range(3):
        f({"key": keys[k]})
    used = {"key": fg.random.key(5)}
    f(used)
    with pytest.raises(fg.errors.KeyReuseError):
        f(used)
