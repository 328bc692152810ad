"""Kernels of users: rules, transforms and errors; on the CPU, and on a GPU that g++ plays."""

import shutil

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.backends.cuda import kernel_object, launching
from fgrad.backends.cuda.signature import obstacle_to_batches, over_batches, signature_of
from fgrad.core.primitive import Case, Operand, Spec
from fgrad.errors import (
    ArgumentError,
    CompilationError,
    CustomRuleError,
    DtypeError,
    RuleError,
    ShapeError,
    StaticArgumentError,
    UnsupportedCallError,
)
from fgrad.testing import check_kernel
from tests.backends.cuda import fake_cupy

SCALE = """
// y = factor * x * w, where w is the same for all rows
extern "C" __global__ void scale(const float* __restrict__ x, const float* w, float* y,
                                 int n, float factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = factor * x[i] * w[i];  /* one thread an element */
}
"""
SPLIT = """
extern "C" __global__ void split(const float* x, float* big, float* small, long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= n) return;
    if (x[i] > 1) big[i] = x[i]; else small[i] = x[i];
}
"""
F32 = np.float32
X = np.linspace(-1.0, 2.0, 6, dtype=F32)
W = np.linspace(1.0, 2.0, 6, dtype=F32)


def scale_vjp(ct, _y, x, w, *, factor=1.0):
    return factor * ct * w, factor * ct * x


def scale_jvp(primals, tangents, *, factor=1.0):
    (x, w), (dx, dw) = primals, tangents
    return scale(x, w, factor=factor), factor * (dx * w + x * dw)


RULES = {
    "out": lambda x, _w, **_: x,
    "scalars": lambda x, _w, factor=1.0: (x.size, factor),
    "cpu": lambda x, w, factor=1.0: np.asarray(factor, x.dtype) * x * w,
    "block": 4,
}
TYPES = (fg.ShapeDtypeStruct((6,), F32),) * 2
scale = fg.cuda_kernel(SCALE, "scale", vjp=scale_vjp, example=(*TYPES, {"factor": 2.0}), **RULES)
split = fg.cuda_kernel(
    SPLIT, "split", out=lambda x: (x, x), scalars=lambda x: x.size, fill=0.0,
    cpu=lambda x: (np.where(x > 1, x, 0), np.where(x > 1, 0, x)),
)  # fmt: skip


def variant(source=SCALE, name="scale", **rules):
    return fg.cuda_kernel(source, name, **{**RULES, **rules})


@pytest.fixture
def gpu(monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("g++ plays the GPU")
    fake_cupy.install(monkeypatch)
    # What was loaded on another test's device does not outlive it.
    for kernel in (scale, split):
        monkeypatch.setattr(kernel, "_function",
                            launching.Loaded(kernel.source, kernel.name, ()))  # fmt: skip
        monkeypatch.setattr(kernel, "_batched", None)
    return lambda x: fg.device_put(x, "cuda:1")


@pytest.fixture(params=["cpu", "cuda:1"])
def place(request):
    return np.asarray if request.param == "cpu" else request.getfixturevalue("gpu")


def same(got, want):
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-6)


def test_values_gradients_and_programs(place):
    x, w = place(X), place(W)
    same(scale(x, w), X * W)
    same(scale(x, w, factor=3.0), 3 * X * W)
    same(fg.jit(lambda x, w: scale(x, w, factor=3.0) + 1)(x, w), 3 * X * W + 1)

    def loss(x, w):
        return fnp.sum(scale(x, w, factor=2.0) ** 2)

    for f in (fg.grad(loss, argnums=(0, 1)), fg.jit(fg.grad(loss, argnums=(0, 1)))):
        dx, dw = f(x, w)
        same(dx, 8 * X * W * W)
        same(dw, 8 * X * X * W)
    out, tangent = fg.jvp(lambda x: scale(x, w), (x,), (fnp.ones_like(x),))
    same(out, X * W)
    same(tangent, W)
    assert out.device == fnp.asarray(x).device


def test_a_batch_is_one_launch_with_blocks_along_z(place):
    rows = np.stack([X, 2 * X, X - 1])
    same(fg.vmap(scale, in_axes=(0, None))(place(rows), place(W)), rows * W)
    same(fg.vmap(scale, in_axes=(1, 0))(place(rows.T.copy()), place(rows)), rows * rows)
    nested = fg.vmap(fg.vmap(scale, in_axes=(None, 0)), in_axes=(0, None))
    same(nested(place(rows), place(rows)), rows[:, None] * rows[None])
    f = fg.vmap(fg.grad(lambda x, w: fnp.sum(scale(x, w) ** 2)), in_axes=(0, None))
    same(f(place(rows), place(W)), 2 * rows * W * W)
    same(fg.jit(f)(place(rows), place(W)), 2 * rows * W * W)
    assert fg.vmap(scale)(place(rows[:0]), place(rows[:0])).shape == (0, 6)


def test_launches_are_what_the_rules_say(gpu, monkeypatch):
    x, w = gpu(X), gpu(W)
    fake_cupy.log.clear()
    scale(x, w)
    fg.vmap(scale)(*(gpu(np.stack([a] * 5)) for a in (X, W)))
    launches = [entry for entry in fake_cupy.log if entry[0] == "launch"]
    assert launches == [("launch", "scale", (2, 1, 1), (4, 1, 1), 0),
                        ("launch", "scale", (2, 1, 5), (4, 1, 1), 0)]  # fmt: skip
    monkeypatch.setattr(kernel_object, "_MOST_Z", 2)
    fake_cupy.log.clear()
    rows = np.stack([X + i for i in range(5)])
    same(fg.vmap(scale, in_axes=(0, None))(gpu(rows), w), rows * W)
    assert [entry[2][2] for entry in fake_cupy.log if entry[0] == "launch"] == [2, 2, 1]
    fake_cupy.log.clear()
    assert scale(gpu(X[:0]), gpu(W[:0])).shape == (0,)
    assert not [entry for entry in fake_cupy.log if entry[0] == "launch"]


def test_operands_are_made_contiguous(gpu):
    table = np.arange(24, dtype=F32).reshape(4, 6)
    same(scale(gpu(table)[:, 1][::-1], gpu(table)[::-1, 2]), table[::-1, 1] * table[::-1, 2])


def test_several_results_and_a_fill(place):
    big, small = split(place(X))
    same(big, np.where(X > 1, X, 0))
    same(small, np.where(X > 1, 0, X))
    rows = np.stack([X, X + 1])
    same(fg.vmap(split)(place(rows))[0], np.where(rows > 1, rows, 0))


def test_a_rule_for_jvp_serves_both_modes(place):
    f = variant(jvp=scale_jvp, example=TYPES)
    x, w = place(X), place(W)
    same(fg.jvp(lambda x: f(x, w), (x,), (fnp.ones_like(x),))[1], W)
    same(fg.grad(lambda x: fnp.sum(f(x, w)))(x), W)


def test_a_pair_of_rules_keeps_its_own_residuals():
    def fwd(x, w, *, factor=1.0):
        return scale(x, w, factor=factor), (factor * x, factor * w)

    f = variant(vjp=(fwd, lambda kept, ct, **_: (ct * kept[1], ct * kept[0])), example=TYPES)
    same(fg.grad(lambda x: fnp.sum(f(x, W, factor=3.0)))(X), 3 * W)


def test_a_rule_of_its_own_for_batches(place):
    def batch(size, batched, x, w, *, factor=1.0):
        assert size == 3
        return x * (w if batched[1] else w[None]) * factor, True

    f = variant(batch=batch, example=None)
    rows = np.stack([X, 2 * X, X - 1])
    same(fg.vmap(f, in_axes=(0, None))(place(rows), place(W)), rows * W)
    for wrong, match in (((X, True), "is f32"), (X, "must return"), (((X, X), True), "got 2")):
        g = variant(batch=lambda *_, wrong=wrong, **__: wrong)
        with pytest.raises(CustomRuleError, match=match):
            fg.vmap(g, in_axes=(0, None))(rows, W)


def test_an_existing_kernel_of_cupy_is_taken(gpu):
    class RawKernel:
        name, code, options = "scale", SCALE, ()

        def __call__(self, grid, block, args, *, shared_mem=0):
            loaded(grid, block, args, shared_mem)

    loaded = launching.Loaded(SCALE, "scale", ())
    f = fg.cuda_kernel(RawKernel(), **RULES)
    same(f(gpu(X), gpu(W)), X * W)
    rows = np.stack([X, X])
    same(fg.vmap(f, in_axes=(0, None))(gpu(rows), gpu(W)), rows * W)
    RawKernel.code = None
    silent = fg.cuda_kernel(RawKernel(), **{**RULES, "scalars": (np.int32(6), F32(2))})
    same(silent(gpu(X), gpu(W)), 2 * X * W)
    with pytest.raises(RuleError, match=r"does not tell its source; give batch="):
        fg.vmap(silent)(rows, rows)
    with pytest.raises(ArgumentError, match="NumPy scalars"):
        fg.cuda_kernel(RawKernel(), **RULES)(gpu(X), gpu(W))


def test_programs_show_the_kernel():
    text = str(fg.make_jaxpr(lambda x: scale(x, W, factor=2.0))(X))
    assert "cuda_kernel[" in text
    assert "kernel=scale" in text
    steps = fg.jit(lambda x: scale(x, W)).lower(X).schedule()
    assert [(s.kind, s.name) for s in steps] == [("host", "cuda_kernel")]


def test_wrong_calls_say_what_to_do():
    with pytest.raises(RuleError, match=r"scale has no derivative rule: give vjp= or jvp="):
        fg.grad(lambda x: fnp.sum(variant()(x, W)))(X)
    with pytest.raises(RuleError, match="no derivative rule"):
        fg.jvp(lambda x: variant()(x, W), (X,), (X,))
    with pytest.raises(UnsupportedCallError, match=r"no twin; put the\s+operands on a GPU"):
        variant(cpu=None)(X, W)
    with pytest.raises(ShapeError, match="returned 2 arrays, its rule out states 1"):
        variant(cpu=lambda x, w, **_: (x, w))(X, W)
    with pytest.raises(ShapeError, match=r"result 0 of the twin of kernel scale is f32\[1\]"):
        variant(cpu=lambda x, w, **_: x[:1])(X, W)
    with pytest.raises(DtypeError, match=r"is f64\[6\], its rule out states f32\[6\]"):
        variant(cpu=lambda x, w, **_: np.float64(2) * x.astype(float))(X, W)
    with pytest.raises(StaticArgumentError, match="factor, list"):
        scale(X, W, factor=[2.0])
    with pytest.raises(StaticArgumentError, match=r"factor, an array f32\[\]; pass a number"):
        fg.jit(lambda factor: scale(X, W, factor=factor))(2.0)
    with pytest.raises(ArgumentError, match=r"3 pointers \(x, w, y\), got 3 operands and 1 res"):
        variant(out=lambda x, *_, **__: x)(X, W, W)
    for words in ({"facter": 2.0}, {"x": X[0]}):
        with pytest.raises(CustomRuleError, match=r"rule out of kernel scale does not take .*arg"):
            variant(out=lambda x, w, factor=1.0: x)(X, W, **words)
    with pytest.raises(CustomRuleError, match=r"rule cpu of kernel scale does not take"):
        variant(cpu=lambda x: x)(X, W)
    with pytest.raises(TypeError, match="can only") as caught:  # from within a rule: as it is
        variant(cpu=lambda *_, **__: [] + ())(X, W)
    assert type(caught.value) is TypeError
    with pytest.raises(CustomRuleError, match="types with shape and dtype"):
        variant(out=lambda *_, **__: 3)(X, W)


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [
        ({"scalars": 3}, ArgumentError, r"takes 2 numbers \(n, factor\).* gives 1"),
        ({"scalars": (2**40, 1.0)}, DtypeError, "does not fit int n"),
        ({"scalars": (F32(6), 1.0)}, DtypeError, "n is int, got float32"),
        ({"out": lambda x, *_, **__: (x, x)}, ArgumentError, "3 pointers .* 2 operands and 2 res"),
        ({"out": fg.ShapeDtypeStruct((6,), "float64")}, DtypeError, r"y points to float, got f64"),
        ({"grid": (1, 70000)}, ArgumentError, "grid of kernel scale"),
        ({"block": 2048}, ArgumentError, "1 to 1024 threads"),
        ({"cpu": lambda x, w, **_: x[:1]}, ShapeError, "twin"),
        ({"vjp": lambda ct, y, x, w, **_: (ct,)}, CustomRuleError, "scale"),
        ({"vjp": lambda ct, y, x, w, **_: (ct[:1], ct)}, CustomRuleError, r"f32\[1\]"),
        ({"jvp": lambda p, t, **_: (p[0], t[0][:1])}, CustomRuleError, r"f32\[1\]"),
        ({"batch": lambda size, batched, x, w, **_: (x[0], True)}, CustomRuleError, "batch"),
    ],
)
def test_rules_are_checked_when_the_kernel_is_declared(rules, error, match):
    with pytest.raises(error, match=match):
        variant(**rules, example=TYPES)


def test_types_are_checked_when_a_kernel_is_launched(gpu):
    with pytest.raises(DtypeError, match=r"x points to float, got f64\[6\]"):
        scale(gpu(X.astype(np.float64)), gpu(W))


def test_a_kernel_is_found_in_its_text():
    found = signature_of(SCALE, "scale")
    assert [(p.name, p.type, p.pointer) for p in found.parameters] == [
        ("x", "float", True), ("w", "float", True), ("y", "float", True),
        ("n", "int", False), ("factor", "float", False),
    ]  # fmt: skip
    assert SCALE[found.body - 1] == "{"
    assert over_batches(SCALE, found).count("\n") == SCALE.count("\n")
    with pytest.raises(RuleError, match=r"no __global__ function 'scaled'; there is scale"):
        signature_of(SCALE, "scaled")
    mangled = SCALE.replace('extern "C"', "/* extern */")
    with pytest.raises(RuleError, match=r'does not declare scale as extern "C"'):
        fg.cuda_kernel(mangled, "scale", out=lambda x: x)
    assert fg.cuda_kernel(f'extern "C" {{ {mangled} }}', "scale", out=lambda x: x).name == "scale"
    with pytest.raises(RuleError, match="needs the name"):
        fg.cuda_kernel(SCALE, out=lambda x: x)
    with pytest.raises(RuleError, match=r"a string, or a cupy\.RawKernel"):
        fg.cuda_kernel(3, "scale", out=lambda x: x)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("void k(float* y) { y[blockIdx.z] = 1; }", r"uses blockIdx\.z"),
        ("void k(float* y) { y[gridDim . z] = 1; }", r"uses gridDim \. z"),
        ("void k(float* const y) { y[0] = 1; }", "pointer y cannot be moved"),
        ("void k(void* y) { }", "pointer y cannot be moved"),
    ],
)
def test_a_kernel_that_cannot_get_a_dimension_more_says_why(text, reason):
    text = f'extern "C" __global__ {text}'
    kernel = fg.cuda_kernel(text, "k", out=fg.ShapeDtypeStruct((), F32), cpu=lambda x: x)
    with pytest.raises(RuleError, match=f"{reason}.*give batch="):
        fg.vmap(kernel)(X)
    commented = "// blockIdx.z\n__global__ void k(float* y) { }"
    assert obstacle_to_batches(commented, signature_of(commented, "k")) is None


def test_the_grid_of_a_batch_must_not_use_z_itself(gpu):
    f = variant(grid=(1, 1, 2))
    rows = gpu(np.stack([X, X]))
    with pytest.raises(RuleError, match="uses z"):
        fg.vmap(f)(rows, rows)


def test_the_property_suite_takes_a_kernel_and_finds_wrong_rules():
    spec = Spec(Operand(), (Case("n, n", {"factor": 2.0}),), dtypes=("float32",), order=2)
    check_kernel(scale, spec, examples=4)
    with pytest.raises(AssertionError):
        check_kernel(variant(vjp=lambda ct, y, x, w, factor=1.0: (ct * w, factor * ct * x)),
                     spec, examples=2, shrink=False)  # fmt: skip
    exact = Spec(Operand(), (Case("n, n", smallest=1),), dtypes=("float32",), order=0,
                 reference=lambda x, w: x + w)  # fmt: skip
    with pytest.raises(AssertionError):
        check_kernel(scale, exact, examples=2, shrink=False)
    with pytest.raises(RuleError, match="no twin"):
        check_kernel(variant(cpu=None), spec)


def test_the_property_suite_judges_the_kernel_on_a_gpu(gpu):
    spec = Spec(Operand(), (Case("n, n", smallest=1),), dtypes=("float32",), order=0)
    check_kernel(scale, spec, examples=1)
    wrong = variant(SCALE.replace("* x[i]", "+ x[i]"))
    with pytest.raises(AssertionError):
        check_kernel(wrong, spec, examples=1, shrink=False)


@pytest.mark.parametrize("arch", ["80", "90", "100"])
def test_nvrtc_compiles_both_texts_and_names_the_line_of_an_error(arch):
    nvrtc = pytest.importorskip("cupy").cuda.nvrtc
    if int(arch) not in nvrtc.getSupportedArchs():
        pytest.skip("not an architecture of this NVRTC")
    for source in (SCALE, over_batches(SCALE, signature_of(SCALE, "scale"))):
        assert launching.compiled(source, "scale", (), arch)[:4] == b"\x7fELF"
    with pytest.raises(CompilationError, match=r"kernel scale in line 6 of its source:\n.*y\[j\]"):
        launching.compiled(SCALE.replace("y[i] =", "y[j] ="), "scale", (), arch)


@pytest.mark.parametrize(("header", "type_"), [("cuda_fp16", "__half"),
                                              ("cuda_bf16", "__nv_bfloat16")])  # fmt: skip
def test_nvrtc_finds_the_headers_of_cuda(header, type_):
    pytest.importorskip("cupy")
    source = f"""#include <{header}.h>
    extern "C" __global__ void twice(const {type_}* x, {type_}* y) {{ y[0] = x[0] + x[0]; }}"""
    assert launching.compiled(source, "twice", (), "90")[:4] == b"\x7fELF"


def test_an_error_of_nvrtc_is_explained():
    log = 'scale.cu(6): error: identifier "j" is undefined\n1 error detected'
    text = launching.explained(SCALE, "scale", log)
    assert "in line 6 of its source:\n    if (i < n) y[i]" in text
    assert launching.explained(SCALE, "scale", "no room").startswith("NVRTC cannot compile kernel")
