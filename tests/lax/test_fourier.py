import numpy as np
import pytest

from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.tracing import bind
from fgrad.lax import fourier as module
from fgrad.lax.fourier import FftType, fft, fft_p
from tests.lax.against_jax import check

CASES = (*module._COMPLEX_CASES, *module._REAL_CASES)


def _argument(case, seed=0):
    rng = np.random.default_rng(seed)
    shape = [int(n) if n.isdigit() else 2 for n in case.shapes.split()]
    x = rng.normal(size=shape)
    return x if case.params["fft_type"] is FftType.RFFT else x + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value_is_that_of_the_definition(case, single):
    x = _argument(case)
    if single:
        x = x.astype("c8" if x.dtype.kind == "c" else "f4")
    out = fft(x, **case.params)._data
    expected = module._reference(x, **case.params)
    assert out.dtype.itemsize == expected.dtype.itemsize // (2 if single else 1)
    np.testing.assert_allclose(out, expected, atol=1e-5 if single else 1e-12)
    assert np.all(np.abs(expected) <= module._terms(x, **case.params) + 1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_transform_agrees_with_jax(case):
    from jax import lax

    kind, lengths = case.params["fft_type"], case.params["fft_lengths"]
    check(
        lambda x: fft(x, kind, lengths),
        lambda x: lax.fft(x, kind.name, lengths),
        [_argument(case)],
    )


def test_other_dtypes_are_converted():
    assert fft(np.arange(4, dtype=np.int32), "FFT", (4,)).dtype == np.complex64
    assert fft(np.arange(4, dtype=np.int32), "RFFT", (4,)).dtype == np.complex64
    with pytest.raises(DtypeError, match="float32"):
        fft(np.zeros(4, np.float16), "RFFT", (4,))


def test_empty_batches():
    assert fft(np.zeros((0, 4)), "RFFT", (4,)).shape == (0, 3)


@pytest.mark.parametrize("invalid", fft_p.spec.invalid, ids=lambda i: i.match + i.types[0])
def test_invalid_operands(invalid):
    x = np.zeros(4, {"f32": np.float32, "c64": np.complex64}[invalid.types[0][:3]])
    with pytest.raises(invalid.error, match=invalid.match):
        bind(fft_p, as_value(x), **invalid.params)


def test_unknown_type():
    with pytest.raises(ShapeError, match="fft_type"):
        fft(np.zeros(4), "DCT", (4,))


def test_it_is_reached_from_lax_without_being_loaded_with_it():
    import subprocess
    import sys

    code = (
        "import sys; from fgrad import lax; late = ('fgrad.lax.fourier', 'fgrad.lax.linalg'); "
        "assert not set(late) & set(sys.modules); "
        "assert callable(lax.fft) and lax.FftType and lax.fft_p and lax.linalg.cholesky; "
        "assert set(late) <= set(sys.modules); from fgrad.lax import fft; assert fft is lax.fft"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    from fgrad import lax

    with pytest.raises(AttributeError, match="no attribute 'fft2'"):
        _ = lax.fft2
