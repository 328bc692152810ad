"""Calls of jitted functions with trees of arrays find their program at once, and only theirs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.api.sites import _Likeness
from fgrad.backends.cpu.functions import functions
from fgrad.core.evaluate import BORROWED, WEAK, ArrayImpl, DonatedBuffer
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


SHAPES = st.sampled_from([(), (0,), (2,), (3,), (2, 3), (3, 2)])
DTYPES = st.sampled_from([np.float32, np.float64, np.int32, np.bool_])


@st.composite
def values(draw):
    """An array of a few possible types, or something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([np.float32(1), np.zeros(2, np.float32), None, 1.0, "text"]))
    flags = draw(st.integers(0, (WEAK | BORROWED)))
    return ArrayImpl(np.zeros(draw(SHAPES), draw(DTYPES)), flags)


@given(st.data())
def test_machine_code_and_python_compare_alike(data):
    first = data.draw(st.lists(values().filter(lambda x: type(x) is ArrayImpl), max_size=4))
    changed = [data.draw(st.one_of(st.just(x), values())) for x in first]
    if data.draw(st.integers(0, 4)) == 0:
        changed = changed[:-1]
    fast, slow = functions().alike(first), _Likeness(first)
    assert fast is not None
    assert fast(*first)
    assert slow(*first)
    assert fast(*changed) == slow(*changed)


def test_a_donated_array_is_like_none():
    x = ArrayImpl(np.zeros(2), 0)
    alike = functions().alike([x])
    assert alike(x)
    assert not alike(ArrayImpl(DonatedBuffer(x._data, "f"), 0))


def test_of_calls_with_arrays_alone_the_latest_is_compared_at_once():
    f = fg.jit(lambda x: x + 1)
    for n in (2, 3, 2, 3):
        assert f(fnp.zeros(n)).shape == (n,)
    assert [s.plain for s in f._sites] == [True]
    assert f.cache_info()[:2] == (2, 2)


def test_without_machine_code_calls_are_compared_in_python():
    with fg.cpu_compiler("numpy"):
        f = fg.jit(lambda t: t["x"] + 1)
        for n in (2, 3, 2, 3):
            assert f({"x": fnp.zeros(n)}).shape == (n,)
        assert {type(s._alike) for s in f._sites} == {_Likeness}
