"""Copies to shared memory and products of matrices by warps, on the CPU and on a card."""

import importlib.util

import ml_dtypes
import numpy as np
import pytest

from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.backends.cuda.prelude import with_prelude
from fgrad.backends.object_cache import ObjectCache
from tests.backends.cuda.targets import CARD, SHIM, launcher

HALVES = ("float16", "bfloat16")


def product_source(name):
    """16 × 16 times 16 × 8: b lies with its columns as rows, or turned as it is read."""
    return f"""
template <bool TURNED> FG void multiply(const fg_{name}* a, const fg_{name}* b, float* out) {{
  __shared__ __align__(16) fg_{name} left[16 * 16], right[16 * 16];
  int lane = threadIdx.x;
  fg_copy<16>(left + 8 * lane, a + 8 * lane);
  bool there = lane < 16;  // the other half is zeros
  fg_copy<16>(right + 8 * lane, b + 8 * (there ? lane : 0), there);
  fg_copy_commit();
  fg_copy_wait<0>();
  __syncthreads();
  unsigned x[4], y[4];
  // Matrices of 8 × 8: upper and lower rows of the first terms, then of the others.
  fg_load_matrices(x, left + lane % 16 * 16 + lane / 16 * 8);
  // b: 8 × 16, columns as rows; turned: 16 × 8, so that both halves of terms are its rows.
  if (TURNED) fg_load_matrices<true>(y, right + lane % 16 * 8);
  else fg_load_matrices(y, right + lane % 8 * 16 + lane / 8 % 2 * 8);
  float d[4] = {{1, 1, 1, 1}};
  const unsigned terms[2] = {{y[0], y[1]}};
  fg_mma<fg_{name}>(d, x, terms);
  int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}}
extern "C" __global__ void by_columns(const fg_{name}* a, const fg_{name}* b, float* out,
                                      long long) {{
  multiply<false>(a, b, out);
}}
extern "C" __global__ void by_rows(const fg_{name}* a, const fg_{name}* b, float* out, long long) {{
  multiply<true>(a, b, out);
}}
"""


TF32 = """
extern "C" __global__ void rounded(const float* x, float* out, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = fg_round_tf32(x[i]);
}
extern "C" __global__ void multiplied(const float* a, const float* b, float* out, long long) {
  int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  float x[4], y[2], d[4] = {1, 1, 1, 1};
  for (int i = 0; i < 4; i++) x[i] = fg_round_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (int i = 0; i < 2; i++) y[i] = fg_round_tf32(b[(t + 4 * i) * 8 + g]);
  fg_mma_tf32(d, x, y);
  for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}
"""


def close(got, a, b):
    wanted = a.astype("d") @ b.astype("d") + 1
    bound = 2.0**-20 * (np.abs(a.astype("d")) @ np.abs(b.astype("d")) + 1)
    assert (np.abs(got - wanted) <= bound).all()


@pytest.fixture(scope="module", params=[SHIM, CARD])
def target(request):
    return request.param


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("turned", [False, True])
def test_warps_multiply_matrices_of_16_bits(target, name, turned):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(16, 16)).astype(dtype), rng.normal(size=(16, 8)).astype(dtype)
    given = b if turned else np.ascontiguousarray(b.T)
    out = np.zeros((16, 8), "f")
    call = launcher(target, product_source(name))
    close(call("by_rows" if turned else "by_columns", 1, 32, [a, given, out], 1), a, b)


def tf32(x):
    return ((x.view("I") + 0x1000) & ~np.uint32(0x1FFF)).view("f")


def test_warps_multiply_matrices_of_tf32(target):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(16, 8)).astype("f"), rng.normal(size=(8, 8)).astype("f")
    out = np.zeros((16, 8), "f")
    call = launcher(target, TF32)
    close(call("multiplied", 1, 32, [a, b, out], 1), tf32(a), tf32(b))
    x = np.concatenate([rng.normal(size=500) * 10.0 ** rng.integers(-40, 38, 500), [0, -0.0]])
    x = np.concatenate([x, 1 + np.arange(-9, 9) * 2.0**-12]).astype("f")
    got = call("rounded", 3, 256, [x, np.zeros_like(x)], x.size)
    np.testing.assert_array_equal(got, tf32(x))
    special = np.array([np.inf, -np.inf, np.nan], "f")
    got = call("rounded", 1, 32, [special, np.zeros_like(special)], 3)
    np.testing.assert_array_equal(got, special)


@pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy, which loads NVRTC, is not installed"
)
@pytest.mark.parametrize("arch", ["80", "90", "100"])
def test_special_instructions_compile(tmp_path, arch):
    for source in (*map(product_source, HALVES), TF32):
        code = compile_source(with_prelude(source), arch, cache=ObjectCache(tmp_path))
        assert code.startswith(b"\x7fELF")
