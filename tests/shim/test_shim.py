"""The emulation of CUDA C: what runs as on a device, and what is told to be wrong."""

import ctypes
import re
import shutil

import numpy as np
import pytest

from tests.shim import LaunchError, build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

SOURCE = r"""
struct scaled_words { long long n; float by; };
extern "C" __global__ void __launch_bounds__(256) scaled(const float4* __restrict__ x, float4* y,
                                                         const scaled_words w) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < w.n) {
    float4 v = __ldg(x + i);
    y[i] = make_float4(v.x * w.by, v.y * w.by, v.z * w.by, v.w * w.by);
  }
}
extern "C" __global__ void places(unsigned* out) {
  unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  unsigned n = blockDim.x * blockDim.y * blockDim.z;
  atomicAdd(&out[b * n + t], 1 + threadIdx.z);
}
template <int WARPS> __device__ float block_sum(float x) {
  __shared__ float partial[WARPS];
  for (int o = 16; o; o >>= 1) x += __shfl_down_sync(~0u, x, o);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < WARPS; i++) total += partial[i];
  return total;
}
extern "C" __global__ void normalized(const float* x, float* y, int n) {
  extern __shared__ float row[];
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    row[i] = x[blockIdx.x * n + i];
    sum += row[i];
  }
  sum = block_sum<4>(sum);
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[blockIdx.x * n + i] = row[i] / sum;
}
extern "C" __global__ void shuffled(int* out, int width) {
  int t = threadIdx.x;
  out[0 * 32 + t] = __shfl_sync(~0u, t, 3, width);
  out[1 * 32 + t] = __shfl_up_sync(~0u, t, 2, width);
  out[2 * 32 + t] = __shfl_down_sync(~0u, t, 2, width);
  out[3 * 32 + t] = __shfl_xor_sync(~0u, t, 5, width);
  out[4 * 32 + t] = (int)__ballot_sync(~0u, t % 3 == 0);
  out[5 * 32 + t] = __any_sync(~0u, t == 7) + 2 * __all_sync(~0u, t < 32) + 4 * __any_sync(~0u, 0);
  out[6 * 32 + t] = __reduce_add_sync(~0u, t);
  out[7 * 32 + t] = t < 16 ? __shfl_sync(0xFFFF, t, 0) : __shfl_sync(0xFFFF0000, t, 31);
}
extern "C" __global__ void counted(int* out) {
  int odd = threadIdx.x & 1;
  int n = __syncthreads_count(odd), all = __syncthreads_and(odd), any = __syncthreads_or(odd);
  out[threadIdx.x] = n * 10 + all * 2 + any;
}
extern "C" __global__ void uninitialised(float* out, int fill) {
  __shared__ float own[32];
  extern __shared__ float given[];
  if (fill) own[threadIdx.x] = given[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = own[threadIdx.x] + given[threadIdx.x];
}
extern "C" __global__ void racing(int* out) {
  __shared__ int next[64];
  next[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = next[(threadIdx.x + 1) % 64];
}
extern "C" __global__ void left(int* out) {
  if (threadIdx.x < 3) return;
  __syncthreads();  // A
}
extern "C" __global__ void missed(int* out) {
  if (threadIdx.x < 32) __syncthreads();  // B
}
extern "C" __global__ void different(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();  // C
  } else {
    __syncthreads();  // D
  }
}
extern "C" __global__ void alone(int* out) {
  if (threadIdx.x & 1) out[threadIdx.x] = __shfl_sync(~0u, 1, 0);  // E
}
extern "C" __global__ void mixed(int* out) {
  if (threadIdx.x & 1) __syncwarp(); else out[0] = __shfl_sync(~0u, 1, 0);  // F
}
extern "C" __global__ void unnamed(int* out) { __syncwarp(0xFF); }
extern "C" __global__ void beyond_dynamic(int* out) {
  extern __shared__ int own[];
  own[threadIdx.x] = 1;
}
extern "C" __global__ void beyond_static(int* out, int at) {
  __shared__ int own[8];
  own[at] = 1;  // G
  out[0] = own[at];
}
extern "C" __global__ void misaligned(int* out) {
  *(int4*)(out + 1) = make_int4(1, 2, 3, 4);  // H
}
"""


@pytest.fixture(scope="module")
def kernels():
    return build(SOURCE)


def lines_of(message):
    """The message with the lines of the marks in it."""
    marks = {s[-1]: str(i) for i, s in enumerate(SOURCE.split("\n"), 1) if s[-5:-1] == " // "}
    return re.sub(r"(?<=line )[A-Z]\b", lambda mark: marks[mark.group()], message)


def word(value):
    return int(value).to_bytes(4, "little")


@pytest.mark.parametrize("last_first", [False, True])
def test_a_kernel_reads_and_writes_arrays(kernels, last_first):
    x = np.arange(4000, dtype="f")
    y = np.zeros_like(x)
    words = np.array((1000, 2.5), np.dtype([("n", "q"), ("by", "f")], align=True)).tobytes()
    kernels.run("scaled", 4, 256, 0, [x, y, words], last_first=last_first)
    np.testing.assert_array_equal(y, x * np.float32(2.5))


def test_every_thread_of_every_block_runs_once(kernels):
    out = np.zeros(2 * 3 * 4 * 5 * 6 * 7, "I")
    kernels.run("places", (2, 3, 4), (5, 6, 7), 0, [out])
    np.testing.assert_array_equal(out, np.tile(np.repeat(np.arange(1, 8), 30), 24))


@pytest.mark.parametrize("last_first", [False, True])
def test_blocks_synchronise_over_shared_memory(kernels, last_first):
    x = np.random.default_rng(0).random((5, 300), dtype="f")
    y = np.zeros_like(x)
    kernels.run("normalized", 5, 128, 1200, [x, y, word(300)], last_first=last_first)
    np.testing.assert_allclose(y, x / x.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("width", [32, 16, 8])
def test_warps_exchange_values(kernels, width):
    out = np.zeros((8, 32), "i")
    kernels.run("shuffled", 1, 32, 0, [out, word(width)])
    t = np.arange(32)
    start = t // width * width
    np.testing.assert_array_equal(out[0], start + 3)
    np.testing.assert_array_equal(out[1], np.where(t - 2 < start, t, t - 2))
    np.testing.assert_array_equal(out[2], np.where(t + 2 >= start + width, t, t + 2))
    np.testing.assert_array_equal(out[3], np.where((t ^ 5) >= start + width, t, t ^ 5))
    np.testing.assert_array_equal(out[4].view("I"), sum(1 << i for i in range(0, 32, 3)))
    np.testing.assert_array_equal(out[5], 3)
    np.testing.assert_array_equal(out[6], t.sum())
    np.testing.assert_array_equal(out[7], np.where(t < 16, 0, 31))


def test_barriers_count(kernels):
    out = np.zeros(96, "i")
    kernels.run("counted", 1, 96, 0, [out])
    np.testing.assert_array_equal(out, 48 * 10 + 1)


def test_shared_memory_starts_as_nan_in_each_block(kernels):
    out = np.zeros(32, "f")
    kernels.run("uninitialised", 2, 32, 128, [out, word(1)])
    np.testing.assert_array_equal(out, 2)
    kernels.run("uninitialised", 2, 32, 128, [out, word(0)])
    assert np.isnan(out).all()


def test_the_order_of_threads_tells_a_race(kernels):
    first, last = np.zeros(64, "i"), np.zeros(64, "i")
    kernels.run("racing", 1, 64, 0, [first])
    kernels.run("racing", 1, 64, 0, [last], last_first=True)
    assert (first != last).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("left", "waits at the barrier of line A, and 3 of 64 threads have returned"),
        ("missed", "waits at the barrier of line B, which 32 of 64 threads reach"),
        ("different", "waits at the barrier of line D, and 32 threads at that of line C"),
        ("alone", "__shfl_sync of line E: lane 0 has returned"),
        ("mixed", "lane 0 waits at the __shfl_sync of line F with mask 0xffffffff"),
        ("unnamed", "the mask 0xff leaves out lane 8, which calls it"),
        ("beyond_dynamic", "writes to byte 64 of 64 bytes of dynamic shared memory"),
        ("misaligned", "line H: the address is not aligned"),
    ],
)
def test_what_is_undefined_is_an_error(kernels, name, message):
    with pytest.raises(LaunchError, match=f"kernel {name}, block .*{lines_of(message)}"):
        kernels.run(name, 1, 64, 64, [np.zeros(64, "i")])
    test_barriers_count(kernels)  # the module works on


@pytest.mark.parametrize("at", [-1, 8])
def test_an_index_beyond_an_array_is_an_error(kernels, at):
    out = np.zeros(1, "i")
    with pytest.raises(LaunchError, match=lines_of(f"line G: index {at} is beyond the array")):
        kernels.run("beyond_static", 1, 1, 0, [out, at.to_bytes(4, "little", signed=True)])


def test_parameters_and_sizes_are_checked(kernels):
    out = np.zeros(64, "i")
    with pytest.raises(LaunchError, match="parameter 1 takes 4 bytes, given 8"):
        kernels.run("shuffled", 1, 32, 0, [out, out])
    with pytest.raises(LaunchError, match="parameter 1 takes 4 bytes, given -1"):
        kernels.run("shuffled", 1, 32, 0, [out])
    with pytest.raises(LaunchError, match=r"a block of \(1025, 1, 1\) threads"):
        kernels.run("counted", 1, 1025, 0, [out])
    with pytest.raises(LaunchError, match=r"a grid of \(1, 65536, 1\) blocks"):
        kernels.run("counted", (1, 65536), 32, 0, [out])


def test_a_launch_takes_parameters_as_the_driver_does(kernels):
    out = np.zeros((8, 32), "i")
    values = ctypes.c_void_p(out.ctypes.data), ctypes.c_int(32)
    params = (ctypes.c_void_p * 2)(*map(ctypes.addressof, values))
    kernels.launch("shuffled", 1, 32, 0, ctypes.addressof(params))
    np.testing.assert_array_equal(out[0], 3)


def test_what_does_not_compile_says_why():
    with pytest.raises(RuntimeError, match=r"module:2:.*nonsense"):
        build("\nnonsense;")
