"""Fourier transforms by passes, against NumPy's in float64."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.backends.cuda import fourier
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, View
from tests.backends.cuda.running import copied

SHAPES = [
    ((1,), 1), ((2,), 1), ((3, 16), 1), ((2, 30), 1), ((2, 97), 1), ((64, 3), 1), ((1000,), 1),
    ((4, 6, 5), 2), ((2, 3, 4, 7), 3), ((2, 9, 8), 3),
]  # fmt: skip


def run(execute, x, kind, lengths, view=None):
    jaxpr = fg.make_jaxpr(lambda a: lax.fft(a, kind, lengths))(x).jaxpr
    eqn = jaxpr.eqns[0]
    shown = view or View(0, 0, x.shape, tuple(s // x.itemsize for s in x.strides))
    out = eqn.outputs[0].aval
    found = copied(np.zeros(out.shape, out.dtype))
    execute(plan_of(Library(eqn, 0, (shown,), (1,))), [copied(x.ravel(order="K"))], [found])
    return found.reshape(out.shape)


def assert_near(found, want):
    eps = np.finfo(found.dtype).eps
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= 4 * eps * np.abs(want).max() + 1e-300


@pytest.mark.parametrize("kind", ["FFT", "IFFT", "RFFT", "IRFFT"])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("shape", "rank"), SHAPES, ids=str)
def test_transforms_of_all_kinds_and_lengths(shape, rank, single, kind, execute):
    rng = np.random.default_rng(0)
    lengths = shape[-rank:]
    given = (*shape[:-1], shape[-1] // 2 + 1) if kind == "IRFFT" else shape
    x = rng.normal(size=given)
    if kind != "RFFT":
        x = x + 1j * rng.normal(size=given)
    if single:
        x = x.astype("F" if x.dtype.kind == "c" else "f")
    name = {"FFT": "fftn", "IFFT": "ifftn", "RFFT": "rfftn", "IRFFT": "irfftn"}[kind]
    wide = x.astype("D" if x.dtype.kind == "c" else "d")
    want = getattr(np.fft, name)(wide, lengths, tuple(range(-rank, 0)))
    assert_near(run(execute, x, kind, lengths), want)


def test_transposed_operands(execute):
    x = np.random.default_rng(1).normal(size=(6, 5)).T + 0j
    assert_near(run(execute, x, "FFT", (6,)), np.fft.fft(x))


def test_factors_multiply_to_the_length():
    for n in range(1, 400):
        found = fourier.factors(n)
        assert np.prod(found, dtype=int) == n
    assert fourier.factors(4096) == [8, 8, 8, 8]
    assert fourier.factors(2 * 10007) == [2, 10007]
    assert fourier.factors(1) == []
