"""Devices, moves, other libraries and memory on a card; most logic is tested without one."""

import gc
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import DeviceError, DtypeError

pytestmark = pytest.mark.gpu

LARGE = 1 << 20  # elements: through pinned memory


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def pointer(x):
    return x._data.data.ptr


def test_the_card_is_listed_and_is_the_default(cupy):
    first = fg.devices("gpu")[0]
    assert (first, first.platform, first.id) == ("cuda:0", "gpu", 0)
    assert len(first.device_kind) > 3
    with fg.default_device(None):
        here = f"cuda:{cupy.cuda.runtime.getDevice()}"
        assert fg.devices()[0] == "cuda:0"
        for x in (fnp.zeros(2), fnp.asarray([1.0]), fnp.arange(3), fg.random.key(0)._data):
            assert x.device == here
        assert fnp.sin(np.ones(2)).device == "cpu"
        assert fg.grad(lambda x: fnp.sum(x * fnp.arange(3.0)))(np.ones(3)).device == "cpu"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8", "uint64",
                                   "bool", "complex64"])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5), (LARGE,)], ids=str)
def test_what_goes_there_comes_back(dtype, shape):
    rng = np.random.default_rng(0)
    x = np.asarray(rng.integers(0, 100, shape)).astype(fnp.dtype(dtype))
    there = fg.device_put(x, "cuda:0")
    assert (there.device, there.shape, there.dtype) == ("cuda:0", x.shape, x.dtype)
    back = fg.device_get({"a": there, "b": [there]})
    for got in (back["a"], back["b"][0], np.asarray(fg.device_put(there, "cpu"))):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, x)


def test_waiting_for_an_array():
    x = fg.device_put(np.ones((2048, 2048), np.float32), "cuda:0")
    y = x @ x @ x
    assert fg.block_until_ready({"y": y})["y"] is y
    assert y.is_ready()
    assert float(y.block_until_ready()[0, 0]) == 2048.0**2


def test_layouts_survive():
    x = np.arange(24.0).reshape(4, 6)
    for view in (x.T, x[::-1, ::2], np.broadcast_to(x[:1], (4, 6))):
        np.testing.assert_array_equal(fg.device_get(fg.device_put(view, "cuda:0")), view)
    wide = fg.device_put(np.arange(LARGE * 2.0).reshape(2, LARGE), "cuda:0")
    np.testing.assert_array_equal(fg.device_get(wide.T), np.arange(LARGE * 2.0).reshape(2, -1).T)


def test_later_writes_to_a_source_do_not_show(cupy):
    pinned = np.ndarray((LARGE,), np.float64, cupy.cuda.alloc_pinned_memory(8 * LARGE))
    for x in (pinned, np.empty(LARGE)):
        x[:] = 1.0
        there = fg.device_put(x, "cuda:0")
        x[:] = 2.0
        assert float(there.sum()) == LARGE


def test_float8_is_refused():
    with pytest.raises(DtypeError, match="float8"):
        fg.device_put(fnp.zeros(2, fnp.float8_e4m3fn, device="cpu"), "cuda:0")


def test_device_put_in_derivatives_and_programs():
    x = fg.device_put(np.arange(3.0), "cpu")

    def f(x):
        y = fg.device_put(x, "cuda:0")
        return fnp.sum(y * y * y)

    value, gradient = fg.value_and_grad(f)(x)
    assert (value.device, gradient.device) == ("cuda:0", "cpu")
    np.testing.assert_array_equal(gradient, [0.0, 3.0, 12.0])
    for _ in range(2):
        y = fg.jit(lambda x: fg.device_put(x, "cuda:0") * 2)(x)
        assert y.device == "cuda:0"
        np.testing.assert_array_equal(np.asarray(y), [0.0, 2.0, 4.0])
    with pytest.raises(DeviceError, match="cuda:0"):
        fg.jit(lambda x: fg.device_put(x, "cpu") * 2)(y)
    moved = fg.device_put(fg.device_put(x, "cpu", may_alias=False), "cuda:0", donate=True)
    assert moved.device == "cuda:0"


def test_cupy_shares_memory_in_both_directions(cupy):
    source = cupy.arange(4.0)
    x = fnp.from_dlpack(source)
    assert pointer(x) == source.data.ptr
    y = x * 1
    for shared in (cupy.asarray(y), cupy.from_dlpack(y)):
        assert shared.data.ptr == pointer(y)
    copied = fnp.from_dlpack(source, copy=True)
    assert pointer(copied) != source.data.ptr
    assert fnp.from_dlpack(source, device="cpu").device == "cpu"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64"])
def test_torch_shares_memory_in_both_directions(dtype):
    torch = pytest.importorskip("torch")
    t = torch.arange(6, device="cuda").reshape(2, 3).to(getattr(torch, dtype))
    for x in (fnp.asarray(t, copy=False), fnp.from_dlpack(t)):
        assert pointer(x) == t.data_ptr()
        assert x.dtype == fnp.dtype(dtype)
        np.testing.assert_array_equal(np.asarray(x.astype(np.float32)), t.float().cpu().numpy())
    y = fnp.from_dlpack(t) * 2
    back = torch.from_dlpack(y)
    assert back.data_ptr() == pointer(y)
    assert torch.equal(back, t * 2)


def test_work_of_another_library_comes_first():
    torch = pytest.importorskip("torch")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        t = torch.ones(1 << 24, device="cuda")
        for _ in range(200):
            t = t + 1
        x = fnp.from_dlpack(t)
    assert float(x.min()) == float(x.max()) == 201.0


def test_threads_with_streams_of_their_own(cupy):
    x = fg.device_put(np.linspace(0.0, 1.0, 4096), "cuda:0")
    fg.block_until_ready(x)
    want = np.asarray(fg.grad(lambda x: fnp.sum(fnp.sin(x) ** 2))(x))
    found = {}

    def work(i):
        with cupy.cuda.Stream(non_blocking=True) as stream:
            for _ in range(10):
                y = fg.grad(lambda x: fnp.sum(fnp.sin(x) ** 2))(x)
            stream.synchronize()
            found[i] = cupy.asnumpy(y._data)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 4
    for got in found.values():
        np.testing.assert_array_equal(got, want)


def test_memory_is_counted(cupy):
    gc.collect()
    before = fg.memory_stats("cuda:0")
    assert before.keys() == {"bytes_in_use", "pool_bytes", "bytes_limit", "bytes_free",
                             "bytes_total"}  # fmt: skip
    with fg.peak_memory("cuda:0") as peak:
        kept = fg.device_put(np.zeros(LARGE), "cuda:0")
        dropped = kept + 1
        del dropped
        small = kept[:8] + 1
    after = fg.memory_stats("cuda:0")
    assert after["bytes_in_use"] >= before["bytes_in_use"] + 8 * LARGE
    assert peak.bytes >= before["bytes_in_use"] + 16 * LARGE
    assert peak.bytes < before["bytes_in_use"] + 20 * LARGE
    assert small.shape == (8,)
    assert 0 < after["bytes_free"] < after["bytes_total"]


def test_two_gpus_do_not_meet_by_themselves(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU")
    x, y = (fg.device_put(np.arange(3.0), d) for d in ("cuda:0", "cuda:1"))
    with pytest.raises(DeviceError, match=r"cuda:0.*cuda:1"):
        x + y
    z = fnp.sin(y) + np.ones(3)
    assert z.device == "cuda:1"
    moved = fg.device_put(z, "cuda:0")
    np.testing.assert_array_equal(np.asarray(moved), np.asarray(z))
    assert fg.grad(lambda y: fnp.sum(y * y))(y).device == "cuda:1"
    f = fg.jit(lambda x: x * np.arange(3.0))
    assert [f(v).device for v in (x, y)] == ["cuda:0", "cuda:1"]
