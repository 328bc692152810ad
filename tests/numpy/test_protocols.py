"""NumPy's, Python's and DLPack's protocols, on concrete arrays and on tracers."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import (
    ConcretizationTypeError,
    DtypeError,
    ImmutableArrayError,
    TracerArrayConversionError,
    UnsupportedCallError,
)
from fgrad.numpy import _scipy_special

X = fnp.array([1.0, 2.0, 3.0])


def test_conversion_to_numpy_is_a_read_only_view() -> None:
    view = np.asarray(X)
    assert not view.flags.writeable
    assert np.shares_memory(view, np.asarray(X))
    assert np.array(X).flags.writeable
    assert np.asarray(X, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(X, np.float64, copy=False)


def test_python_scalars() -> None:
    one = fnp.array(1.5)
    assert float(one) == 1.5
    assert int(one) == 1
    assert complex(one) == 1.5
    assert bool(one)
    assert f"{one:.2f}" == "1.50"
    assert [10, 20][fnp.array(1)] == 20
    assert one.item() == 1.5
    assert X.tolist() == [1.0, 2.0, 3.0]
    assert round(fnp.array(2.6)) == 3
    with pytest.raises(ConcretizationTypeError, match="without axes"):
        float(X)
    with pytest.raises(TypeError, match="index"):
        [1][one]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(X)
    with pytest.raises(TypeError, match="unhashable"):
        hash(X)


def test_sequences() -> None:
    assert len(X) == 3
    assert [float(a) for a in X] == [1.0, 2.0, 3.0]
    assert 2.0 in X
    assert 5.0 not in X
    assert [float(a) for a in reversed(X)] == [3.0, 2.0, 1.0]
    with pytest.raises(TypeError, match="len"):
        len(fnp.array(1.0))
    with pytest.raises(TypeError, match="iterate"):
        iter(fnp.array(1.0))
    np.testing.assert_array_equal(fg.grad(lambda x: sum(a * a for a in x))(X), [2, 4, 6])


def test_copies_and_pickles() -> None:
    for weak in (X, fnp.asarray(2.0)):
        for other in (copy.copy(weak), copy.deepcopy(weak), pickle.loads(pickle.dumps(weak))):
            assert repr(other) == repr(weak)
    data = np.ones(2)
    borrowed = fnp.asarray(data, copy=False)
    kept = copy.copy(borrowed)
    data[0] = 5.0
    assert float(borrowed[0]) == 5.0
    assert float(kept[0]) == 1.0


def test_asarray_is_safe_from_later_writes() -> None:
    data = np.ones(2)
    x = fnp.asarray(data)
    y = fnp.array(data)
    data[0] = 5.0
    assert float(x[0]) == float(y[0]) == 1.0
    frozen = np.ones(2)
    frozen.flags.writeable = False
    assert np.shares_memory(np.asarray(fnp.asarray(frozen)), frozen)


def test_ufuncs_dispatch() -> None:
    assert isinstance(np.add(X, 1), fg.Array)
    np.testing.assert_array_equal(np.add.reduce(X), 6.0)
    np.testing.assert_array_equal(np.multiply.accumulate(X), [1, 2, 6])
    np.testing.assert_array_equal(np.multiply.outer(X, X), np.outer([1, 2, 3], [1, 2, 3]))
    out = np.zeros(3)
    assert np.add(X, 1, out=out) is out
    np.testing.assert_array_equal(out, [2, 3, 4])
    out += X
    np.testing.assert_array_equal(out, [3, 5, 7])
    assert np.add(X, 1, dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match=r"numpy\.add: where="):
        np.add(X, 1, where=np.array([True, False, True]))
    with pytest.raises(TypeError, match="no counterpart"):
        np.add.reduceat(X, [0, 1])
    with pytest.raises(ImmutableArrayError, match="immutable"):
        np.add(np.ones(3), 1, out=X)


def test_a_ufunc_is_known_by_what_it_is_not_by_its_name() -> None:
    def square(x: float) -> float:
        return -x

    own: Any = np.frompyfunc(square, 1, 1)
    assert own.__name__.startswith("square")

    class Impostor:
        """Two namesakes of NumPy's cannot be made in Python; this one calls the protocol."""

        __name__ = "square"

    for foreign in (own, Impostor()):
        with pytest.raises(UnsupportedCallError, match="not NumPy's, has no counterpart"):
            X.__array_ufunc__(foreign, "__call__", X)
    with pytest.raises(UnsupportedCallError, match="not NumPy's"):
        fg.grad(lambda x: own(x).sum())(X)


@pytest.mark.parametrize("name", _scipy_special.__all__)
def test_ufuncs_of_scipy_dispatch(name: str) -> None:
    ufunc = getattr(special, name)
    args = [np.array([0.3, 0.6])] * ufunc.nin
    found = ufunc(*map(fnp.asarray, args))
    assert isinstance(found, fg.Array)
    np.testing.assert_allclose(found, ufunc(*args), rtol=1e-12)


def test_ufuncs_of_scipy_have_derivatives_or_say_that_they_have_none() -> None:
    x = np.array([0.3, 0.6])
    np.testing.assert_allclose(
        fg.grad(lambda x: special.digamma(x).sum())(x), special.polygamma(1, x), rtol=1e-12
    )
    assert fg.jit(special.erf)(1).dtype == np.float32
    with pytest.raises(UnsupportedCallError, match=r"scipy\.special\.gamma has no counterpart"):
        special.gamma(X)


def test_functions_dispatch() -> None:
    assert isinstance(np.concatenate([X, X]), fg.Array)
    assert isinstance(np.where(X > 1, X, np.zeros(3)), fg.Array)
    np.testing.assert_allclose(np.linalg.norm(X), np.sqrt(14.0), rtol=1e-6)
    np.testing.assert_allclose(np.fft.fft(X), np.fft.fft([1, 2, 3]), rtol=1e-6)
    np.testing.assert_array_equal(np.histogram(X, 2)[0], [1, 2])
    assert np.shares_memory(X, X)
    assert np.array_repr(X)
    with pytest.raises(TypeError, match=r"numpy\.busday_count|no counterpart"):
        np.is_busday(X)


def test_tracers_dispatch_and_never_become_arrays() -> None:
    gradient = fg.grad(lambda x: np.sum(np.concatenate([x, x]) * np.arange(6.0, dtype=np.float32)))
    np.testing.assert_array_equal(gradient(X), [3, 5, 7])
    np.testing.assert_allclose(fg.grad(lambda x: np.linalg.norm(x))(X), X / np.sqrt(14.0),
                               rtol=1e-6)  # fmt: skip

    def escape(how: Any) -> None:
        with pytest.raises(TracerArrayConversionError, match="lose its derivative"):
            fg.grad(lambda x: how(x) + x.sum())(X)

    escape(lambda x: np.asarray(x).sum())
    escape(lambda x: float(x[0]))
    escape(lambda x: x[0].item())
    escape(lambda x: x.tolist()[0])
    escape(lambda x: np.add(x, 1, out=np.zeros(3)).sum())
    escape(lambda x: np.array([x[0], x[1]]).sum())
    with pytest.raises(TracerArrayConversionError, match="buffer"):
        fg.jit(lambda x: np.from_dlpack(x))(X)


def test_a_numpy_array_cannot_swallow_a_tracer() -> None:
    def f(x: Any) -> Any:
        data = np.zeros(3)
        data[0] = x[0]
        return data.sum() + x.sum()

    with pytest.raises((TracerArrayConversionError, ValueError, TypeError)):
        fg.grad(f)(X)

    def g(x: Any) -> Any:
        data = np.zeros(3, np.float32)
        data += x
        return data.sum()

    with pytest.raises(TracerArrayConversionError, match="derivative"):
        fg.grad(g)(X)


def test_dlpack() -> None:
    assert np.shares_memory(np.from_dlpack(X), np.asarray(X))
    assert not np.from_dlpack(X).flags.writeable
    assert X.__dlpack_device__() == (1, 0)
    old = X.__dlpack__()  # a reader that knows no read-only buffers gets a copy
    assert "dltensor" in repr(old)
    source = np.arange(3.0)
    assert fnp.from_dlpack(source).dtype == np.float64
    assert not np.shares_memory(np.asarray(fnp.from_dlpack(source, copy=True)), source)
    with pytest.raises(BufferError, match="read-only"):
        X.__dlpack__(copy=False)


def test_array_api_entry_points() -> None:
    assert X.__array_namespace__() is fnp
    assert X.__array_namespace__(api_version="2024.12") is fnp
    with pytest.raises(ValueError, match="version"):
        X.__array_namespace__(api_version="1999.01")
    info = fnp.__array_namespace_info__()
    assert fnp.__array_api_version__ == "2024.12"
    assert info.default_dtypes()["real floating"] == np.float32
    assert set(info.dtypes(kind="complex floating")) == {"complex64", "complex128"}
    assert info.capabilities()["boolean indexing"]
    assert info.default_device() in info.devices()
    with pytest.raises(ValueError, match="device"):
        info.dtypes(device="tpu")
    assert X.device == "cpu"
    assert X.to_device("cpu") is X
    assert X.devices() == {"cpu"}
    assert not hasattr(X, "__cuda_array_interface__")


def test_save_and_load(tmp_path: Any) -> None:
    fnp.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(fnp.load(tmp_path / "x.npy"), X)
    fnp.savez(tmp_path / "x.npz", X, y=X)
    assert set(fnp.load(tmp_path / "x.npz")) == {"arr_0", "y"}


def test_a_read_only_view_of_a_writable_array_is_copied(tmp_path: Path) -> None:
    data = np.ones(2)
    view = data[:]
    view.flags.writeable = False
    made = [fnp.asarray(view), fnp.asarray(np.broadcast_to(data, (3, 2))), lax.reshape(view, (2,))]
    _, pullback = fg.vjp(fnp.square, view)
    data[:] = 5.0
    assert all((np.asarray(x) == 1.0).all() for x in made)
    np.testing.assert_array_equal(pullback(np.ones(2))[0], [2.0, 2.0])
    for frozen in (np.frombuffer(b"12345678", np.int64), _mapped(tmp_path)):
        assert np.shares_memory(np.asarray(fnp.asarray(frozen)), frozen)


def _mapped(folder: Path) -> np.ndarray[Any, Any]:
    np.save(folder / "x.npy", np.ones(4))
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.mark.peers
def test_pytorch_cannot_write_to_an_array() -> None:
    torch = pytest.importorskip("torch")
    x = fnp.arange(3.0)
    for made in (torch.from_dlpack(x), torch.utils.dlpack.from_dlpack(x)):
        made[0] = 9.0
    assert x.tolist() == [0.0, 1.0, 2.0]
    shared = torch.from_dlpack(x, copy=False)
    assert shared.data_ptr() == np.asarray(x).ctypes.data
    with pytest.raises(DtypeError, match="NumPy cannot read"):
        fnp.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
