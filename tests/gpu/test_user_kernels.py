"""Kernels of users on a card; rules, transforms and errors are tested without one elsewhere."""

from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.backends.cuda import launching
from fgrad.core.primitive import Case, Operand, Spec
from fgrad.errors import CompilationError, DtypeError
from fgrad.testing import check_kernel

pytestmark = pytest.mark.gpu

F32 = np.float32
SCALE = """
extern "C" __global__ void scale(const float* x, const float* w, float* y, int n, float factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = factor * x[i] * w[i];
}
"""
ROWS = """
extern "C" __global__ void rows(const float* x, float* total, unsigned* count, int width) {
    extern __shared__ float part[];
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float v = x[(long long)blockIdx.x * width + i];
        sum += v;
        if (v > 0) atomicAdd(count, 1u);
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < blockDim.x; ++i) sum += part[i];
        total[blockIdx.x] = sum;
    }
}
"""


def scale_vjp(ct, _y, x, w, *, factor=1.0):
    return scale(ct, w, factor=factor), scale(ct, x, factor=factor)


RULES = {
    "out": lambda x, _w, **_: x,
    "scalars": lambda x, _w, factor=1.0: (x.size, factor),
    "cpu": lambda x, w, factor=1.0: np.asarray(factor, x.dtype) * x * w,
}
scale = fg.cuda_kernel(SCALE, "scale", vjp=scale_vjp, **RULES)
rows = fg.cuda_kernel(
    ROWS, "rows",
    out=lambda x: (fg.ShapeDtypeStruct(x.shape[:1], x.dtype), fg.ShapeDtypeStruct((), np.uint32)),
    grid=lambda x: x.shape[0],
    block=64,
    shared_mem=64 * 4,
    scalars=lambda x: x.shape[1],
    fill=0,
    cpu=lambda x: (x.sum(1), np.sum(x > 0, dtype=np.uint32)),
)  # fmt: skip


def put(x):
    return fg.device_put(x, "cuda:0")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(F32)


def close(got, want):
    assert got.device == "cuda:0"
    np.testing.assert_allclose(np.asarray(got), want, rtol=2e-6, atol=1e-6)


def test_values_gradients_and_programs():
    x, w = draw(1000), draw(1000, seed=1)
    for f in (scale, fg.jit(scale)):
        close(f(put(x), put(w)), x * w)
        np.testing.assert_array_equal(np.asarray(f(put(x), put(w))), x * w)
    close(fg.jit(lambda x: scale(x, w, factor=3.0) + 1)(put(x)), F32(3) * x * w + 1)

    def loss(x, w):
        return fnp.sum(scale(x, w, factor=2.0) ** 2)

    for f in (fg.grad(loss, argnums=(0, 1)), fg.jit(fg.grad(loss, argnums=(0, 1)))):
        dx, dw = f(put(x), put(w))
        close(dx, 8 * x * w * w)
        close(dw, 8 * x * x * w)
    plain = fg.cuda_kernel(
        SCALE, "scale", jvp=lambda p, t: (scale(*p), scale(t[0], p[1]) + scale(p[0], t[1])), **RULES
    )
    close(fg.jvp(lambda x: plain(x, w), (put(x),), (put(w),))[1], w * w)
    table = draw(7, 9)
    close(scale(put(table).T, put(table.T)), table.T**2)


def test_batches_are_one_launch_of_any_size():
    x, w = draw(3, 5, 100), draw(5, 100, seed=1)
    f = fg.vmap(fg.vmap(scale), in_axes=(0, None))
    close(f(put(x), put(w)), x * w)
    close(fg.jit(f)(put(x), put(w)), x * w)
    g = fg.vmap(fg.grad(lambda x, w: fnp.sum(scale(x, w) ** 2)), in_axes=(0, None))
    close(g(put(x[:, 0]), put(w[0])), 2 * x[:, 0] * w[0] ** 2)
    many = draw(70_000, 3)
    close(fg.vmap(scale, in_axes=(0, None))(put(many), put(w[0, :3])), many * w[0, :3])


def test_shared_memory_atomics_and_several_results():
    x = draw(6, 500)
    total, count = rows(put(x))
    np.testing.assert_allclose(np.asarray(total), x.sum(1), rtol=1e-4, atol=1e-4)
    assert int(count) == np.sum(x > 0)
    batch = draw(4, 6, 500, seed=2)
    totals, counts = fg.vmap(rows)(put(batch))
    np.testing.assert_allclose(np.asarray(totals), batch.sum(2), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(counts), np.sum(batch > 0, (1, 2)))


def test_an_existing_kernel_of_cupy():
    cupy = pytest.importorskip("cupy")
    f = fg.cuda_kernel(cupy.RawKernel(SCALE, "scale"), **RULES)
    x, w = draw(4, 64), draw(64, seed=1)
    close(f(put(x[0]), put(w)), x[0] * w)
    close(fg.vmap(f, in_axes=(0, None))(put(x), put(w)), x * w)


def test_denormal_numbers_are_kept():
    tiny = np.full(8, 1e-40, F32)
    got = scale(put(tiny), put(np.ones(8, F32)))
    np.testing.assert_array_equal(np.asarray(got), tiny)


@pytest.mark.parametrize(("dtype", "c"), [("float16", "__half"), ("bfloat16", "__nv_bfloat16")])
def test_headers_of_cuda_are_found(dtype, c):
    if not any(Path(flag[2:], "cuda_fp16.h").is_file() for flag in launching._include_flags()):
        pytest.skip("no headers of CUDA")
    header = {"float16": "cuda_fp16.h", "bfloat16": "cuda_bf16.h"}[dtype]
    source = f"""#include <{header}>
    extern "C" __global__ void twice(const {c}* x, {c}* y, int n) {{
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) y[i] = x[i] + x[i];
    }}"""
    twice = fg.cuda_kernel(source, "twice", out=lambda x: x, scalars=lambda x: x.size)
    x = fnp.asarray(draw(100)).astype(dtype)
    np.testing.assert_array_equal(np.asarray(twice(put(x))), np.asarray(x + x))


def test_errors_name_the_line_and_the_type():
    broken = fg.cuda_kernel(SCALE.replace("y[i] =", "y[j] ="), "scale", **RULES)
    with pytest.raises(CompilationError, match="in line 4 of its source"):
        broken(put(draw(4)), put(draw(4)))
    with pytest.raises(DtypeError, match=r"x points to float, got f64\[4\]"):
        scale(put(np.ones(4)), put(draw(4)))


def test_the_property_suite_on_the_card():
    spec = Spec(Operand(), (Case("n, n", {"factor": 2.0}),), dtypes=("float32",), ulps=2.0, order=2)
    check_kernel(scale, spec, examples=4, modes=("rev",))  # its rule launches kernels
    plain = fg.cuda_kernel(
        SCALE,
        "scale",
        vjp=lambda ct, y, x, w, factor=1.0: (factor * ct * w, factor * ct * x),
        **RULES,
    )
    check_kernel(plain, spec, examples=2)
    wrong = fg.cuda_kernel(SCALE.replace("x[i] * w", "x[i] + w"), "scale", **RULES)
    with pytest.raises(AssertionError):
        check_kernel(wrong, Spec(Operand(), (Case("n, n", smallest=2),), dtypes=("float32",),
                                 order=0), examples=2, shrink=False)  # fmt: skip


def test_streams_of_threads_are_used():
    cupy = pytest.importorskip("cupy")
    x, w = put(draw(1 << 20)), put(draw(1 << 20, seed=1))
    fg.block_until_ready((x, w))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        y = scale(scale(x, w), w)
        stream.synchronize()
        close(y, np.asarray(x) * np.asarray(w) * np.asarray(w))
