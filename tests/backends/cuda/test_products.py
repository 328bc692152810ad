"""Products on the device: what cuBLASLt is asked for, by a fake of it, and kernels of our own."""

import ctypes
import shutil
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from fgrad import lax
from fgrad.backends.cuda import cublas, products, tuning
from fgrad.backends.cuda.calls import ForeignCall, KernelCall
from fgrad.backends.object_cache import ObjectCache
from fgrad.compile.plan import Added, Library, View, contiguous
from fgrad.compile.run_plan import seen
from fgrad.core import config
from fgrad.core.errors import LibraryError
from fgrad.core.ir import Eqn
from tests.backends.cuda.fake_cublas import FakeLibrary
from tests.backends.cuda.running import copied, execute

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BATCHED = (((2,), (1,)), ((0,), (0,)))
MATMUL = (((1,), (0,)), ((), ()))
HEADS = (((3,), (3,)), ((0, 2), (0, 2)))


@pytest.fixture
def library(monkeypatch):
    """The fake, in place of the library on the current device."""
    fake = FakeLibrary()
    install(monkeypatch, fake)
    return fake


def install(monkeypatch, fake):
    lt = object.__new__(cublas.Lt)
    lt.functions, lt.handle = fake, ctypes.c_void_p(77)
    for name, types in cublas._SIGNATURES.items():
        function = getattr(fake, name)
        function.argtypes, function.restype = types, ctypes.c_int
    monkeypatch.setattr(cublas, "current", lambda: lt)


def step_of(x, y, numbers, *, added=False, **params):
    """The library step of a product."""
    import fgrad as fg

    given = {"precision": None, "preferred_element_type": None, **params}
    jaxpr = fg.make_jaxpr(lambda a, b: lax.dot_general(a, b, numbers, **given))(x, y).jaxpr
    (eqn,) = jaxpr.eqns
    assert isinstance(eqn, Eqn)
    views = tuple(View(i, 0, v.shape, contiguous(v.shape)) for i, v in enumerate((x, y)))
    return (Added if added else Library)(eqn, 0, views, (2,))


def computed(step, x, y, *, start=None, views=None, epilogue=None, bias=None):
    """The result of a product by its plan."""
    out = step.eqn.outputs[0].aval
    given = copied(np.zeros(out.shape, out.dtype) if start is None else start)
    views = list(views or step.inputs)
    inputs = [copied(x), copied(y)]
    if epilogue:
        views.append(View(3, 0, bias.shape, (1,)))
        inputs.append(copied(bias))
    plan = products.plan(step, views, epilogue)
    execute(plan, inputs, [given], lambda call: call.make())
    return given.reshape(out.shape), plan


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "c":
        found = found + 1j * rng.integers(-4, 5, shape)
    return (found > 0 if np.dtype(dtype).kind == "b" else found).astype(dtype)


def expected(x, y, dimension_numbers):
    wide = np.complex128 if x.dtype.kind == "c" else np.float64 if x.dtype.kind in "fV" else x.dtype
    return np.asarray(
        lax.dot_general_p.spec.reference(
            x.astype(wide), y.astype(wide), dimension_numbers=dimension_numbers
        )
    )


SHAPES = [
    ((3, 4), (4, 5), MATMUL),
    ((4, 3), (5, 4), (((0,), (1,)), ((), ()))),
    ((2, 3, 4), (2, 4, 5), BATCHED),
    ((2, 7, 3, 4), (2, 5, 3, 4), HEADS),
    ((3, 2, 4), (5, 4, 3), (((2, 0), (1, 2)), ((), ()))),
    ((70, 130), (130, 67), MATMUL),
    ((4,), (4,), (((0,), (0,)), ((), ()))),
    ((3, 0), (0, 2), MATMUL),
]
BLAS = ("float32", "float64", "float16", BFLOAT16, "complex64", "complex128")
OWN = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", BLAS, ids=str)
def test_floats_are_multiplied_by_the_library(shapes, dtype, library):
    x, y = (numbers(s, dtype, i) for i, s in enumerate(shapes[:2]))
    out, plan = computed(step_of(x, y, shapes[2]), x, y)
    np.testing.assert_array_equal(out, expected(x, y, shapes[2]).astype(out.dtype))
    foreign = [c for c in plan.calls if isinstance(c, ForeignCall)]
    assert len(foreign) == (0 not in (*x.shape, *y.shape))


@pytest.mark.parametrize(
    ("shapes", "dtype"), [*((SHAPES[4], d) for d in OWN), *((s, "int32") for s in SHAPES)], ids=str
)
def test_integers_are_multiplied_by_a_kernel(shapes, dtype):
    x, y = (numbers(s, dtype, i) for i, s in enumerate(shapes[:2]))
    out, plan = computed(step_of(x, y, shapes[2]), x, y)
    want = lax.dot_general_p.eager(
        np, x, y, dimension_numbers=shapes[2], precision=None, preferred_element_type=None
    )
    np.testing.assert_array_equal(out, want)
    assert all(isinstance(c, KernelCall) for c in plan.calls)


@pytest.mark.parametrize(
    ("dtype", "out", "by"),
    [
        ("float16", "float32", ForeignCall), (BFLOAT16, "float32", ForeignCall),
        ("float32", "float64", KernelCall), (BFLOAT16, "float64", KernelCall),
        ("int8", "int32", KernelCall), ("int32", "float32", KernelCall),
        ("uint64", "float64", KernelCall), ("complex64", "complex128", KernelCall),
    ],
    ids=str,
)  # fmt: skip
def test_sums_may_be_of_a_wider_dtype(dtype, out, by, library):
    x, y = numbers((3, 40), dtype), numbers((40, 5), dtype, 1)
    found, plan = computed(step_of(x, y, MATMUL, preferred_element_type=np.dtype(out)), x, y)
    assert found.dtype == out
    wide = "D" if found.dtype.kind == "c" else "d"
    np.testing.assert_array_equal(found, expected(x.astype(wide), y.astype(wide), MATMUL))
    assert [type(c) for c in plan.calls] == [by]


@pytest.mark.parametrize("dtype", ["float32", BFLOAT16, "complex64", "int32", "bool"], ids=str)
def test_products_are_added_to_what_is_there(dtype, library):
    x, y = numbers((3, 4), dtype), numbers((4, 5), dtype, 1)
    start = numbers((3, 5), dtype, 2)
    out, _ = computed(step_of(x, y, MATMUL, added=True), x, y, start=start)
    product = expected(x, y, MATMUL)
    want = product | start if dtype == "bool" else product + start.astype(product.dtype)
    np.testing.assert_array_equal(out.astype(want.dtype), want)


@pytest.mark.parametrize("dtype", ["float32", "float16", BFLOAT16], ids=str)
@pytest.mark.parametrize("epilogue", ["bias", "gelu_bias"])
def test_epilogues_add_a_bias_to_each_row(epilogue, dtype, library):
    x, y, bias = numbers((3, 4), dtype), numbers((4, 5), dtype, 1), numbers((5,), dtype, 2)
    step = step_of(x, y, MATMUL)
    assert products.takes_epilogue(step)
    out, _ = computed(step, x, y, epilogue=epilogue, bias=bias)
    want = expected(x, y, MATMUL) + bias.astype(float)
    if epilogue == "gelu_bias":
        want = 0.5 * want * (1 + np.tanh(np.sqrt(2 / np.pi) * (want + 0.044715 * want**3)))
    assert np.abs(out.astype(float) - want).max() <= 2e-2 * np.abs(want).max()


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_views_reach_a_product_as_they_lie(dtype, library):
    """Transposed, repeated and reversed operands; the last are packed for the library."""
    memory = numbers((64,), dtype)
    y = numbers((4, 5), dtype, 1)
    other = View(1, 0, (4, 5), (5, 1))
    for view in (
        View(0, 3, (3, 4), (1, 3)), View(0, 0, (3, 4), (0, 1)), View(0, 40, (3, 4), (-4, -1)),
        View(0, 1, (3, 4), (8, 2)),
    ):  # fmt: skip
        x = seen(view, [memory])
        out, _ = computed(step_of(x, y, MATMUL), memory, y, views=(view, other))
        np.testing.assert_array_equal(out, x @ y)


def test_a_kernel_sums_long_rows_with_small_errors():
    n = 1 << 15
    x = np.random.default_rng(0).random((1, n)).astype(BFLOAT16)
    step = step_of(x, x.T.copy(), MATMUL, preferred_element_type=np.dtype("float64"))
    out, _ = computed(step, x, x.T.copy())
    want = (x.astype(float) ** 2).sum()
    assert abs(out[0, 0] - want) <= 70 * 2.0**-53 * want


@pytest.mark.parametrize(
    ("precision", "compute"),
    [
        (None, cublas.FULL), ("highest", cublas.FULL), ("float32", cublas.FULL),
        ("high", cublas.TF32), ("tensorfloat32", cublas.TF32), ("bfloat16", cublas.BF16),
        (("bfloat16", "highest"), cublas.FULL), (("high", "bfloat16"), cublas.TF32),
    ],
)  # fmt: skip
def test_less_than_full_precision_must_be_asked_for(precision, compute):
    x = np.ones((2, 2), np.float32)
    step = step_of(x, x, MATMUL, precision=precision)
    assert products.compute_of(step.eqn.params["precision"]) == compute


def test_no_algorithm_may_add_parts_in_any_order(monkeypatch):
    fake = FakeLibrary(schemes=(1, 4, 2, 0))
    install(monkeypatch, fake)
    x = np.ones((2, 2), np.float32)
    plan = products.plan(step_of(x, x, MATMUL), step_of(x, x, MATMUL).inputs)
    product = plan.calls[0].make()
    assert [a.algorithm.data[0] - 1000 for a in product.algorithms] == [2, 0]
    assert fake.preferences[3] == 2
    assert fake.preferences[1] == plan.workspace_bytes


def test_algorithms_are_timed_once_where_the_user_asks(monkeypatch, tmp_path):
    install(monkeypatch, FakeLibrary(schemes=(0, 2)))
    runtime = SimpleNamespace(
        getDevice=lambda: 0, getDeviceProperties=lambda _device: {"name": b"a card"}
    )
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(tuning, "_choices", lambda: ObjectCache(tmp_path))
    timed = []

    def timer(_run, sizes):
        assert sizes == (2 * 3 * 4, 3 * 2 * 4, 2 * 2 * 4, plan.workspace_bytes)
        return lambda algorithm: timed.append(algorithm) or (2.0, 1.0)[algorithm]

    monkeypatch.setattr(tuning, "timer", timer)
    x = np.ones((2, 3), np.float32)
    step = step_of(x, x.T.copy(), MATMUL)
    with config.autotune(True):
        plan = products.plan(step, step.inputs)
    for _ in range(2):
        product = plan.calls[0].make()
        assert product._algorithm.data[0] == product.algorithms[1].algorithm.data[0]
    assert sorted(set(timed)) == [0, 1]
    assert len(timed) == 2 * tuning._RUNS
    untuned = products.plan(step, step.inputs).calls[0].make()
    assert untuned._algorithm.data[0] == untuned.algorithms[0].algorithm.data[0]


def test_a_refusal_names_status_shapes_and_dtypes(monkeypatch):
    fake = FakeLibrary(schemes=())
    install(monkeypatch, fake)
    x = np.ones((2, 3), np.float32)
    step = step_of(x, x.T, MATMUL)
    plan = products.plan(step, step.inputs)
    with pytest.raises(LibraryError, match=r"no deterministic algorithm for float32\[1, 2, 3\]"):
        plan.calls[0].make()
    monkeypatch.setattr(fake, "cublasLtMatmulDescCreate", lambda *_: 15)
    with pytest.raises(LibraryError, match=r"MatmulDescCreate returned 15 \(not supported\)"):
        plan.calls[0].make()


def test_descriptors_are_destroyed_with_their_product(library):
    x = np.ones((2, 3), np.float32)
    step = step_of(x, x.T, MATMUL)
    product = products.plan(step, step.inputs).calls[0].make()
    assert library.alive == 5
    del product
    assert library.alive == 0


def test_structures_have_the_sizes_of_the_header():
    assert ctypes.sizeof(cublas._Algorithm) == 64
    assert ctypes.sizeof(cublas._Heuristic) == 96
