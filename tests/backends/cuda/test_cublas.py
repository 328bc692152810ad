"""cuBLASLt itself: descriptors wherever it is installed, products on a card."""

import ctypes
from importlib import import_module

import ml_dtypes
import numpy as np
import pytest

from fgrad.backends.cuda import cublas, gemm, products
from fgrad.backends.cuda.calls import LibraryPlan
from fgrad.compile.plan import View
from fgrad.compile.run_plan import seen
from tests.backends.cuda.test_products import MATMUL, SHAPES, expected, step_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(t) for t in ("f", "d", "e", BFLOAT16, "F", "D")]
# Of the dtype that products are added up in.
ROUNDING = {"float64": 2.0**-53, "complex128": 2.0**-52}
STORED = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


# ---------------------------------------------------------------- descriptors, without a device


@pytest.fixture
def installed(monkeypatch):
    """The library, without a handle; skips where it is not installed."""
    finder = pytest.importorskip("cuda.pathfinder")
    try:
        path = finder.load_nvidia_dynamic_lib("cublasLt").abs_path
    except finder.DynamicLibNotFoundError:
        pytest.skip("cuBLASLt is not installed")
    lt = object.__new__(cublas.Lt)
    lt.functions, lt.handle = ctypes.CDLL(path), ctypes.c_void_p()
    for name, types in cublas._SIGNATURES.items():
        function = getattr(lt.functions, name)
        function.argtypes, function.restype = types, ctypes.c_int
    monkeypatch.setattr(cublas, "current", lambda: lt)
    monkeypatch.setattr(cublas.Product, "_search", lambda _self: [cublas._Heuristic()])
    return lt


def attribute(lt, kind, described, key, form):
    """An attribute of a descriptor, as the library holds it."""
    function = getattr(lt.functions, f"{kind}GetAttribute")
    p = ctypes.c_void_p
    function.argtypes = (p, ctypes.c_int, p, ctypes.c_size_t, p)
    value, written = form(), ctypes.c_size_t()
    status = function(
        described, key, ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written)
    )
    assert (status, written.value) == (0, ctypes.sizeof(value))
    return value.value


@pytest.mark.parametrize("epilogue", cublas.EPILOGUES)
@pytest.mark.parametrize("compute", [cublas.FULL, cublas.TF32, cublas.BF16])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_library_holds_what_was_described(dtype, compute, epilogue, installed):
    x, y = View(0, 0, (5, 3, 4), (12, 1, 3)), View(0, 0, (5, 4, 2), (8, 2, 1))
    g = gemm.describe(x, y, (((2,), (1,)), ((0,), (0,))))
    spec = cublas.Spec(g, dtype.name, dtype.name, compute, False, epilogue, 1 << 20)
    product = cublas.Product(spec)
    code = cublas.DATA_TYPES[dtype.name]

    def of_product(key, form):
        return attribute(installed, "cublasLtMatmulDesc", product._descriptor, key, form)

    wide = dtype.name in ("float64", "complex128")
    assert of_product(0, ctypes.c_int32) == (70 if wide else cublas._COMPUTE[compute])
    assert of_product(1, ctypes.c_int32) == (0 if dtype.itemsize == 2 else code)
    assert (of_product(3, ctypes.c_int32), of_product(4, ctypes.c_int32)) == (0, 1)
    assert of_product(7, ctypes.c_uint32) == cublas.EPILOGUES[epilogue]
    for described, m in zip(product._layouts, (g.a, g.b, g.out), strict=True):
        forms = (ctypes.c_uint32, ctypes.c_int32, *(ctypes.c_uint64,) * 2, ctypes.c_int64,
                 ctypes.c_int32, ctypes.c_int64)  # fmt: skip
        held = [attribute(installed, "cublasLtMatrixLayout", described, key, form)
                for key, form in enumerate(forms)]  # fmt: skip
        assert held == [code, 0, m.rows, m.columns, m.lead, 5, m.stride]


# ------------------------------------------------------------------------------------- on a card


def check(found, x, y, dimension_numbers, dtype, extra=0.0):
    """Within the errors of sums and of the last rounding."""
    want = expected(x, y, dimension_numbers)
    terms = expected(np.abs(x), np.abs(y), dimension_numbers).real
    u = ROUNDING.get(dtype.name, 2.0**-24)
    bound = (32 * u + extra) * terms + 2 * STORED.get(dtype.name, u) * np.abs(want)
    wide = found.astype(want.dtype)
    assert (np.abs(wide - want) <= bound).all()


def random(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    found = rng.standard_normal(shape)
    if dtype.kind == "c":
        found = found + 1j * rng.standard_normal(shape)
    return found.astype(dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("shapes", [*SHAPES, ((257, 1000), (1000, 129), MATMUL)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products_of_all_dtypes_and_axes(shapes, dtype):
    from tests.backends.cuda.card import execute

    x, y = (random(s, dtype, i) for i, s in enumerate(shapes[:2]))
    step = step_of(x, y, shapes[2])
    out = np.zeros(step.eqn.outputs[0].aval.shape, dtype)
    flat = out.reshape(-1)
    execute(products.plan(step, step.inputs), [x, y], [flat])
    check(out, x, y, shapes[2], dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("flips", range(4))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_transposed_stacks_one_of_them_repeated(dtype, flips, added):
    from tests.backends.cuda.card import execute

    x_memory, y_memory = random((3, 40, 24), dtype, 1), random((24, 48), dtype, 2)
    x = View(0, 0, (3, 40, 24), (960, 24, 1))
    if flips & 1:
        x_memory = random((3, 24, 40), dtype, 1)
        x = View(0, 0, (3, 40, 24), (960, 1, 40))
    y = View(1, 0, (3, 24, 48), (0, 1, 24) if flips & 2 else (0, 48, 1))
    shown = [seen(v, [m.reshape(-1)] * 2) for v, m in ((x, x_memory), (y, y_memory))]
    dimension_numbers = (((2,), (1,)), ((0,), (0,)))
    step = step_of(*map(np.ascontiguousarray, shown), dimension_numbers, added=added)
    start = random((3, 40, 48), dtype, 3) if added else np.zeros((3, 40, 48), dtype)
    out = start.copy()
    execute(products.plan(step, (x, y)), [x_memory, y_memory], [out.reshape(-1)])
    ulp = 2 * STORED.get(dtype.name, ROUNDING.get(dtype.name, 2.0**-24))
    want = expected(*shown, dimension_numbers) + start.astype("D")
    terms = expected(*map(np.abs, shown), dimension_numbers).real
    bound = 32 * ROUNDING.get(dtype.name, 2.0**-24) * terms + ulp * (np.abs(want) + np.abs(start))
    assert (np.abs(out.astype("D") - want) <= bound).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES[:1] + DTYPES[2:4], ids=str)
@pytest.mark.parametrize("epilogue", ["bias", "gelu_bias"])
def test_epilogues(epilogue, dtype):
    from tests.backends.cuda.card import execute

    x, y, bias = random((64, 96), dtype, 0), random((96, 80), dtype, 1), random((80,), dtype, 2)
    step = step_of(x, y, MATMUL)
    views = (*step.inputs, View(2, 0, (80,), (1,)))
    out = np.zeros((64, 80), dtype)
    execute(products.plan(step, views, epilogue), [x, y, bias], [out.reshape(-1)])
    want = expected(x, y, MATMUL) + bias.astype(float)
    if epilogue == "gelu_bias":
        want = 0.5 * want * (1 + np.tanh(np.sqrt(2 / np.pi) * (want + 0.044715 * want**3)))
    # The library's tanh is the hardware's approximation, of some 11 bits.
    allowed = 2.0**-9 if epilogue == "gelu_bias" else 2.0**-18
    error = np.abs(out.astype(float) - want)
    assert (error <= allowed * 40 + 2 * STORED.get(dtype.name, 0) * np.abs(want)).all()


@pytest.mark.gpu
def test_less_precision_gives_less_only_when_asked():
    from tests.backends.cuda.card import execute

    x, y = random((256, 512), DTYPES[0], 0), random((512, 256), DTYPES[0], 1)
    want = expected(x, y, MATMUL)
    errors = {}
    for precision in (None, "high", "bfloat16"):
        step = step_of(x, y, MATMUL, precision=precision)
        out = np.zeros((256, 256), np.float32)
        execute(products.plan(step, step.inputs), [x, y], [out.reshape(-1)])
        errors[precision] = np.abs(out - want).max() / np.abs(want).max()
    assert errors[None] < 1e-6
    assert 1e-5 < errors["high"] < 2e-3
    assert errors["high"] <= errors["bfloat16"] < 2e-2  # the library may multiply more exactly


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [DTYPES[0], BFLOAT16], ids=str)
def test_a_thousand_rows_of_a_long_sum_repeat_bit_by_bit(dtype):
    """Few tiles and many terms: where the library splits sums."""
    import cupy as cp

    from tests.backends.cuda.card import Loaded

    x, y = random((64, 1 << 15), dtype, 0), random((1 << 15, 64), dtype, 1)
    step = step_of(x, y, MATMUL)
    made = Loaded(products.plan(step, step.inputs), [x, y], [np.zeros((64, 64), dtype)])
    stream, found = cp.cuda.Stream(non_blocking=True), set()
    for _ in range(20):
        made.run(stream)
        stream.synchronize()
        found.add(made.outputs[0].get().tobytes())
    assert len(found) == 1
    check(made.result(0, dtype).reshape(64, 64), x, y, MATMUL, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("shapes", [SHAPES[3], SHAPES[4], SHAPES[5]], ids=str)
def test_products_are_captured_in_a_graph(shapes):
    import cupy as cp

    from tests.backends.cuda.card import Loaded

    x, y = (random(s, BFLOAT16, i) for i, s in enumerate(shapes[:2]))
    step = step_of(x, y, shapes[2])
    plan: LibraryPlan = products.plan(step, step.inputs)
    size = step.eqn.outputs[0].aval.size
    direct, captured = (Loaded(plan, [x, y], [np.zeros(size, BFLOAT16)]) for _ in range(2))
    stream = cp.cuda.Stream(non_blocking=True)
    direct.run(stream)
    stream.synchronize()
    pool = cp.get_default_memory_pool()
    used, fresh = pool.used_bytes(), cp.cuda.Stream(non_blocking=True)
    with fresh:
        fresh.begin_capture()
        captured.run(fresh)
        graph = fresh.end_capture()
    graph.launch(stream)
    stream.synchronize()
    assert pool.used_bytes() == used
    assert direct.outputs[0].get().tobytes() == captured.outputs[0].get().tobytes()


@pytest.mark.gpu
def test_every_candidate_computes_the_product():
    import cupy as cp

    from tests.backends.cuda.card import Loaded

    x, y = random((128, 256), BFLOAT16, 0), random((256, 192), BFLOAT16, 1)
    step = step_of(x, y, MATMUL)
    made = Loaded(products.plan(step, step.inputs), [x, y], [np.zeros((128, 192), BFLOAT16)])
    product = made.calls[0].args[0]
    stream = cp.cuda.Stream(non_blocking=True)
    for i in range(len(product.algorithms)):
        product.use(i)
        made.run(stream)
        stream.synchronize()
        check(made.result(0, BFLOAT16).reshape(128, 192), x, y, MATMUL, BFLOAT16)


@pytest.mark.gpu
def test_there_is_a_version():
    runtime = import_module("cupy").cuda.runtime.runtimeGetVersion()
    assert cublas.current().version // 10000 == runtime // 1000
