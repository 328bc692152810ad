"""Devices, moves between them and the default device, over two GPUs that are fakes."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn, random
from fgrad.backends.cuda import devices
from fgrad.core import evaluate
from fgrad.errors import ArgumentError, BufferDonatedError, DeviceError, DtypeError
from tests.backends.cuda import fake_cupy

X = np.arange(3.0)


@pytest.fixture
def cupy(monkeypatch):
    """CuPy with two GPUs."""
    with fg.default_device(None):
        yield fake_cupy.install(monkeypatch)


def on(x, device):
    assert isinstance(x._data, fake_cupy.ndarray), type(x._data)
    assert x.device == device
    return x._data.host


def test_devices_are_listed_and_know_themselves(cupy):
    assert fg.devices() == fg.devices("gpu") == fg.devices("cuda") == ["cuda:0", "cuda:1"]
    assert fg.devices("cpu") == ["cpu"]
    last = fg.devices()[-1]
    assert (last.platform, last.id, last.device_kind) == ("gpu", 1, "Fake GPU")
    info = fnp.__array_namespace_info__()
    assert info.devices() == ["cpu", "cuda:0", "cuda:1"]
    assert info.default_device() == "cuda:0"


@pytest.mark.parametrize("wrong", ["cuda:2", "tpu", "cuda:-1", "cpu:1", 3])
def test_a_device_that_is_not_there_is_an_error(cupy, wrong):
    with pytest.raises(DeviceError):
        fg.device_put(X, wrong)


def test_device_put_moves_trees_and_devices_are_a_prefix(cupy):
    out = fg.device_put({"a": X, "b": (1.0, X)}, {"a": "cuda:1", "b": "cpu"})
    np.testing.assert_array_equal(on(out["a"], "cuda:1"), X)
    assert out["b"][1].device == "cpu"
    assert out["b"][0].weak_type
    back = fg.device_put(out, "cpu")
    np.testing.assert_array_equal(back["a"], X)
    assert fg.device_put(X, cupy.cuda.Device(1)).device == "cuda:1"


def test_a_copy_between_gpus_is_ordered_on_both_streams(cupy):
    x = fg.device_put(X, "cuda:0")
    fake_cupy.log.clear()
    on(fg.device_put(x, "cuda:1"), "cuda:1")
    assert fake_cupy.log == [("record", 0), ("wait", 1, 0), ("record", 1), ("wait", 0, 1)]


def test_none_leaves_arrays_where_they_are(cupy):
    there = fg.device_put(X, "cuda:1")
    assert fg.device_put(there) is there
    here = fg.device_put(X, "cpu")
    assert fg.device_put(here) is here
    assert fg.device_put(X).device == "cuda:0"
    with fg.default_device("cuda:1"):
        assert fg.device_put(X).device == "cuda:1"


def test_aliasing_follows_may_alias(cupy):
    data = X.copy()
    kept, shared = fg.device_put(data, "cpu"), fg.device_put(data, "cpu", may_alias=True)
    data[0] = 7.0
    assert float(kept[0]) == 0.0
    assert float(shared[0]) == 7.0
    assert fg.device_put(kept, "cpu") is kept
    copied = fg.device_put(kept, "cpu", may_alias=False)
    assert not np.shares_memory(np.asarray(copied), np.asarray(kept))


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_donated_array_is_gone(cupy, device):
    x = fg.device_put(X, "cpu")
    y = fg.device_put(x, device, donate=True)
    assert y.device == device
    assert x.is_deleted()
    assert not y.is_deleted()
    with pytest.raises(BufferDonatedError, match="device_put"):
        x + 1
    with pytest.raises(ArgumentError, match="may_alias"):
        fg.device_put(y, device, donate=True, may_alias=True)


def test_a_random_key_stays_the_same_key(cupy):
    key = fg.device_put(random.key(0), "cpu")
    moved = fg.device_put(key, "cuda:1")
    random.split(fg.device_put(key, "cpu", may_alias=False))
    with pytest.raises(fg.errors.KeyReuseError):
        random.bits(moved)


def test_derivatives_pass_through_and_cotangents_go_back(cupy):
    x = fg.device_put(X, "cpu")

    def f(x):
        y = fg.device_put(x, "cuda:1")
        return fnp.sum(y * y * y)

    value, gradient = fg.value_and_grad(f)(x)
    np.testing.assert_array_equal(on(value, "cuda:1"), 9.0)
    assert gradient.device == "cpu"
    np.testing.assert_array_equal(gradient, 3 * X**2)
    out, tangent = fg.jvp(f, (x,), (fnp.ones_like(x),))
    assert (out.device, tangent.device) == ("cuda:1", "cuda:1")
    rows = fg.vmap(lambda r: fg.device_put(r, "cuda:0") * 2)(np.eye(3))
    np.testing.assert_array_equal(on(rows, "cuda:0"), 2 * np.eye(3))


def test_a_program_runs_where_its_device_put_says(cupy):
    f = fg.jit(lambda x, y: fg.device_put(x, "cuda:1") * 2 + y)
    for _ in range(2):
        np.testing.assert_array_equal(on(f(X, X), "cuda:1"), 3 * X)
    gradient = fg.grad(lambda x: fnp.sum(f(x, x)))(X)
    np.testing.assert_array_equal(np.asarray(gradient), [3.0, 3.0, 3.0])
    with pytest.raises(DeviceError, match=r"cuda:1.*cuda:0"):
        f(X, fg.device_put(X, "cuda:0"))
    on_cpu = fg.jit(lambda x: fg.device_put(x, "cpu") * 2)
    np.testing.assert_array_equal(on_cpu(X), 2 * X)
    with pytest.raises(DeviceError, match="lies on cuda:0"):
        on_cpu(fg.device_put(X, "cuda:0"))
    with pytest.raises(DeviceError, match="two devices"):
        fg.jit(lambda x: fg.device_put(x, "cpu") + fg.device_put(x, "cuda:0"))(X)


def test_each_gpu_gets_the_constants_of_a_program(cupy):
    table = np.arange(3.0) + 1
    f = fg.jit(lambda x: x * table + fnp.arange(3.0))
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        got = on(f(fg.device_put(X, device)), device)
        np.testing.assert_array_equal(got, X * table + np.arange(3.0))


def test_operands_on_two_gpus_are_an_error_that_names_both(cupy):
    x, y = (fg.device_put(X, d) for d in ("cuda:0", "cuda:1"))
    with pytest.raises(DeviceError, match=r"f64\[3\] on cuda:0 and f64\[3\] on cuda:1"):
        x + y
    with pytest.raises(DeviceError, match="two devices"):
        fg.jit(lambda x, y: x + y)(x, y)
    np.testing.assert_array_equal(on(y + X, "cuda:1"), 2 * X)  # the host follows


def test_operations_run_on_the_device_of_their_operand(cupy):
    y = fg.device_put(X, "cuda:1")
    np.testing.assert_array_equal(on(fnp.sin(y) * 2, "cuda:1"), np.sin(X) * 2)
    assert fake_cupy._current() == 0
    np.testing.assert_array_equal(on(fg.grad(lambda y: fnp.sum(y * y))(y), "cuda:1"), 2 * X)
    assert fnp.zeros_like(y).device == "cuda:1"


def test_what_the_caller_could_write_to_is_copied_where_it_lies(cupy):
    with cupy.cuda.Device(1):
        data = cupy.array(X)
    for x in (
        fnp.asarray(data), fnp.array(data), fnp.reshape(data, (3,)), fg.device_put(data),
        fg.vmap(lambda v: v)(data), fg.jit(lambda v: v)(data),
    ):  # fmt: skip
        np.testing.assert_array_equal(on(x, "cuda:1"), X)
        assert x._data.host is not data.host
    shared = fnp.asarray(data, copy=False)
    assert shared._data is data
    np.testing.assert_array_equal(on(fnp.copy(shared), "cuda:1"), X)


def test_a_gradient_lies_where_its_argument_does(cupy):
    y = fg.device_put(X, "cuda:1")
    np.testing.assert_array_equal(on(fg.grad(fnp.sum)(y), "cuda:1"), np.ones(3))
    used, unused = fg.grad(lambda a, b: fnp.sum(a), argnums=(0, 1))(y, y)
    np.testing.assert_array_equal(on(used, "cuda:1"), np.ones(3))
    np.testing.assert_array_equal(on(unused, "cuda:1"), np.zeros(3))
    second = fg.grad(lambda y: fnp.sum(fg.grad(lambda y: fnp.sum(y * y * y))(y)))(y)
    np.testing.assert_array_equal(on(second, "cuda:1"), 6 * X)
    assert fg.jit(fg.grad(fnp.sum))(y).device == "cuda:1"


def test_arrays_are_made_on_the_default_device(cupy):
    made = (
        fnp.zeros(2), fnp.asarray([1.0, 2.0]), fnp.array(X), fnp.arange(3), fnp.eye(2),
        random.key(0)._data, nn.initializers.ones(None, (2,)),
    )  # fmt: skip
    assert {x.device for x in made} == {"cuda:0"}
    with cupy.cuda.Device(1):
        assert fnp.zeros(2).device == "cuda:1"
    with fg.default_device("cpu"):
        assert fnp.zeros(2).device == "cpu"
    assert fnp.zeros(2, device="cuda:1").device == "cuda:1"
    assert fnp.zeros(2, device="cpu").device == "cpu"


def test_functions_of_numpy_arrays_stay_on_the_cpu(cupy):
    assert fnp.sin(X).device == "cpu"
    assert nn.softmax(X).device == "cpu"
    assert fg.jit(lambda x: x + fnp.ones(3))(X).device == "cpu"
    assert fg.grad(lambda x: fnp.sum(x * fnp.arange(3.0)))(X).device == "cpu"
    assert fnp.asarray(fg.device_put(X, "cpu")).device == "cpu"


def test_what_is_fetched_is_a_read_only_numpy_array(cupy):
    big = np.arange(1 << 14, dtype=np.float64)
    tree = {"a": fg.device_put(X, "cuda:1"), "b": fg.device_put(big, "cuda:0"), "c": 2.0}
    fake_cupy.log.clear()
    out = fg.device_get(tree)
    np.testing.assert_array_equal(out["a"], X)
    np.testing.assert_array_equal(out["b"], big)
    assert type(out["b"]) is np.ndarray
    assert not out["a"].flags.writeable
    assert out["c"] == 2.0
    assert ("get", 0, False) in fake_cupy.log  # into pinned memory, without waiting
    assert fake_cupy.log[-1] == ("stream", 0)
    np.testing.assert_array_equal(np.asarray(tree["b"]), big)


def test_block_until_ready_waits_for_each_device(cupy):
    tree = [fg.device_put(X, d) for d in ("cuda:0", "cuda:1", "cpu")]
    fake_cupy.log.clear()
    assert fg.block_until_ready(tree) is tree
    assert sorted(fake_cupy.log) == [("synchronize", 0), ("synchronize", 1)]
    fake_cupy.log.clear()
    assert tree[1].block_until_ready() is tree[1]
    assert fake_cupy.log == [("synchronize", 1)]
    assert not tree[1].is_ready()
    assert tree[2].is_ready()


def test_memory_is_told(cupy):
    assert fg.memory_stats("cpu") is None
    assert fg.memory_stats("cuda:1") == fg.devices()[1].memory_stats()
    assert fg.memory_stats() == {
        "bytes_in_use": 10, "pool_bytes": 20, "bytes_limit": 100, "bytes_free": 60,
        "bytes_total": 100,
    }  # fmt: skip
    with fg.peak_memory() as outer:
        fake_cupy.malloc(30)
        with fg.peak_memory("cuda:1") as other:
            fake_cupy.malloc(5, device=1)
        fake_cupy.free(30)
        fake_cupy.malloc(20)
    assert (outer.bytes, other.bytes) == (40, 15)
    fake_cupy.malloc(1000)
    assert outer.bytes == 40
    with pytest.raises(DeviceError, match="measures GPUs"):
        fg.peak_memory("cpu")


def test_an_array_that_was_given_away_is_borrowed_from_then_on(cupy):
    x = fg.device_put(X, "cuda:0")
    assert x.__cuda_array_interface__["shape"] == (3,)
    assert x._flags & evaluate.BORROWED
    assert not fg.device_put(X, "cuda:0")._flags


def test_arrays_of_other_libraries_on_a_gpu_come_in_without_a_copy(cupy):
    class Foreign:
        host = X
        __cuda_array_interface__ = {"version": 3}  # noqa: RUF012 - as in the protocol

    for x in (fnp.asarray(Foreign()), fg.device_put(Foreign())):
        np.testing.assert_array_equal(on(x, "cuda:0"), X)


def test_a_dtype_that_cupy_lacks_is_an_error(cupy):
    with pytest.raises(DtypeError, match="float8_e4m3fn"):
        fg.device_put(fnp.zeros(2, fnp.float8_e4m3fn, device="cpu"), "cuda:0")


def test_without_a_gpu_everything_is_on_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "count", lambda: 0)
    assert fg.devices() == ["cpu"]
    with pytest.raises(DeviceError, match="finds no GPU"):
        fg.devices("gpu")
    assert fg.device_put(X).device == "cpu"
    with fg.default_device("cuda:0"), pytest.raises(DeviceError, match=r"CuPy.*config\.default_d"):
        fnp.zeros(2)
