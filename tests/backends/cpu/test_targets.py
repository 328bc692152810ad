"""Code for processors other than this one: older ones of its kind run here, others are compiled."""

import functools
import hashlib
import re
import struct
import warnings
from unittest import mock

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cpu import compiler, layout, runtime, target, vmath
from fgrad.backends.cpu.engine import Engine
from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.render import module, render
from fgrad.backends.cpu.target import Target, host
from fgrad.backends.object_cache import ObjectCache
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import show
from fgrad.core.scalar import OPS
from fgrad.errors import IndexOutOfBoundsError
from fgrad.testing.strategies import dtype_named
from tests.backends.cpu import kernels, machine
from tests.backends.cpu.random_kernels import random_kernel
from tests.backends.cpu.test_render import same

OLDER = {
    "AVX2": Target(host().triple, "haswell", "+avx2,+fma,+f16c"),
    "SSE2": Target(host().triple, "x86-64", ""),
}
RNG = np.random.default_rng(0)
ELEMENTARY = (
    fnp.exp, fnp.exp2, fnp.expm1, fnp.log, fnp.log1p, fnp.sin, fnp.cos, fnp.tan, fnp.arcsin,
    fnp.arccos, fnp.arctan, fnp.sinh, fnp.cosh, fnp.tanh, fnp.arcsinh, fnp.arccosh, fnp.arctanh,
    lax.erf, lax.erfc, fnp.cbrt, fnp.sqrt, fnp.floor, fnp.sign,
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    host().architecture != "x86_64" or host().vector_bytes < 32, reason="needs AVX2 and FMA"
)


@functools.cache
def functions_of(name):
    return Functions(Engine(OLDER[name], ObjectCache(None)), 2)


@pytest.fixture(params=OLDER)
def older(request, monkeypatch):
    made = functions_of(request.param)
    monkeypatch.setattr(compiler, "functions", lambda: made)
    monkeypatch.setattr(compiler, "engine", lambda: made.engine)
    return made


def test_the_vectors_are_those_of_the_processor(older):
    assert (
        older.engine.target.vector_bytes == {"haswell": 32, "x86-64": 16}[older.engine.target.cpu]
    )
    machine = older.engine.target.machine()
    [text] = compiler._texts({"kernel": kernels.chain(1000)}, older.engine.target.vector_bytes)
    code = machine.emit_assembly(llvm.parse_assembly(text, llvm.create_context()))
    assert "zmm" not in code
    assert ("ymm" in code) == (older.engine.target.vector_bytes == 32)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_elementary_functions_have_the_same_bits_on_every_processor(older, dtype, monkeypatch):
    x = np.concatenate([
        RNG.normal(size=500) * 10.0 ** RNG.integers(-12, 12, 500), RNG.uniform(-1, 1, 500),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 1.0, -1.0, 88.0, 1e30],
    ]).astype(dtype)  # fmt: skip

    def f(x):
        two = [fnp.power(fnp.abs(x), x[::-1]), fnp.arctan2(x, x[::-1]), fnp.hypot(x, x[::-1])]
        return [g(x) for g in ELEMENTARY] + two

    found = fg.jit(f)(x)
    monkeypatch.undo()
    for got, expected in zip(found, fg.jit(f)(x), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_programs_equal_eager_code_on_every_processor(older, name):
    dtype = dtype_named(name)
    x, g = (RNG.normal(size=s).astype(dtype) for s in ((37, 45), (45,)))

    def loss(x, g):
        h = fg.nn.gelu(fg.nn.layer_norm(x, g, g))
        picked = fnp.where(fnp.arange(45) % 3 == 0, h, h[::-1].T.T)
        return fnp.sum(fg.nn.softmax(picked, -1) * x) + fnp.max(h)

    for got, expected in zip(
        fg.jit(fg.value_and_grad(loss, (0, 1)))(x, g)[1],
        fg.value_and_grad(loss, (0, 1))(x, g)[1], strict=True,
    ):  # fmt: skip
        # Sums in another order: some roundings of the largest element.
        close = 64 * float(fnp.finfo(dtype).eps)
        scale = float(np.abs(np.asarray(expected, np.float64)).max())
        error = np.asarray(got, np.float64) - np.asarray(expected, np.float64)
        assert np.abs(error).max() <= close * scale


@pytest.mark.parametrize("name", ["bool", "int8", "float16", "bfloat16", "float32", "complex128"])
def test_lookups_and_updates_on_every_processor(older, name):
    x = RNG.integers(0, 50, (41, 37)).astype(dtype_named(name))
    rows, places = RNG.integers(-41, 41, 90), RNG.integers(0, 60, (41, 70)).astype(np.uint8)

    def f(x, rows, places, start):
        return [
            x[rows], x[rows, 3], x[:, rows % 37], x.reshape(-1)[rows],
            fnp.take_along_axis(x, places, 1, mode="fill", fill_value=1),
            fnp.take(x, places, 0, mode="clip")[:, :9], x[rows][:, :5],
            lax.dynamic_update_slice(x, x[:3, :9], (start, start)),
        ]  # fmt: skip

    args = (x, rows, places, np.int16(30))
    compiled = fg.jit(f)
    for got, expected in zip(compiled(*args), f(*map(fnp.asarray, args)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    with pytest.raises(IndexOutOfBoundsError, match="index -42 "):
        compiled(x, rows * 0 - 42, places, np.int16(0))


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_convolutions_and_scans_equal_eager_code_on_every_processor(older, name):
    dtype = dtype_named(name)
    shapes = [(2, 4, 18, 20), (6, 2, 3, 3), (6, 6, 3, 3), (2, 7, 19, 16), (3, 3, 16, 16)]
    x, v, w, z, u = (RNG.normal(size=s).astype(dtype) for s in shapes)

    last = ("NHWC", "HWIO", "NHWC")

    def loss(x, v, w, z, u):
        y = fg.lax.conv_general_dilated(x, v, (2, 2), "SAME", feature_group_count=2)
        y = fg.lax.conv_general_dilated(y, w, (2, 1), ((1, 1), (1, 1)))  # short rows
        z = fg.lax.conv_general_dilated(z, u, (1, 1), "SAME", dimension_numbers=last)
        sums = fg.lax.cumsum(y, 2) * fg.lax.cumlogsumexp(y, 3, reverse=True)
        return fnp.sum(sums) + fnp.sum(z * z)

    for got, expected in zip(
        fg.jit(fg.value_and_grad(loss, (0, 1, 2, 3, 4)))(x, v, w, z, u)[1],
        fg.value_and_grad(loss, (0, 1, 2, 3, 4))(x, v, w, z, u)[1], strict=True,
    ):  # fmt: skip
        close = 64 * float(fnp.finfo(dtype).eps)
        expected = np.asarray(expected, np.float64)
        error = np.asarray(got, np.float64) - expected
        assert np.abs(error).max() <= close * float(np.abs(expected).max())


def test_all_of_float16_is_converted_exactly_on_every_processor(older):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    wide = fg.jit(lambda x: x.astype("float32"))(halves)
    np.testing.assert_array_equal(wide, halves.astype(np.float32))
    back = fg.jit(lambda x: x.astype("float16"))
    with np.errstate(over="ignore"):
        # Each number, half way to the next, and a little to both sides; and what overflows.
        near = np.asarray(wide)[np.isfinite(halves)]
        middle = (near + np.nextafter(halves[np.isfinite(halves)], np.float16(np.inf))) / 2
        values = [
            near,
            middle,
            np.nextafter(middle, 9e9, dtype="f"),
            np.nextafter(middle, -9e9, dtype="f"),
            np.array([65519, 65520, 1e30, -1e30, 1e-30, np.nan, -np.inf], "f"),
        ]
        for x in values:
            np.testing.assert_array_equal(back(x), x.astype(np.float16))
            same = np.signbit(np.asarray(back(x))) == np.signbit(x)
            assert np.all(same | np.isnan(x))


def test_integers_and_loops_run_on_every_processor(older):
    n = RNG.integers(-1000, 1000, 300).astype(np.int32)

    def f(n):
        wide = lax.scan(lambda c, _: (c * 3 + n, fnp.max(c)), n, None, length=4)
        return wide, n // 7, n % 7, n << 2, fnp.cumsum(n), fnp.sort(n), lax.population_count(n)

    for got, expected in zip(fg.tree.leaves(fg.jit(f)(n)), fg.tree.leaves(f(n)), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", OLDER)
@given(rng=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 10**6), max_size=3))
def test_random_kernels_agree_with_their_meaning_on_every_processor(name, rng, cuts):
    kernel, buffers = random_kernel(rng)
    engine = functions_of(name).engine
    lanes = layout.lanes(kernel, engine.target.vector_bytes)
    expected, found = ([b.copy() for b in buffers] for _ in range(2))
    run_kernel(kernel, expected)
    with mock.patch.object(machine, "functions", functools.partial(code_of, engine)):
        machine.run(kernel, found, lanes, cuts)
    assert all(map(same, expected, found)), show(kernel)


def code_of(engine, kernel, lanes):
    """The functions of a kernel, as `machine.functions` gives them for this processor."""
    key = repr((layout.structure(kernel), lanes))
    name = "k" + hashlib.sha256(key.encode()).hexdigest()
    bits = 8 * engine.target.vector_bytes
    code = engine.load([name], lambda names: module([render(kernel, names[0], lanes)], bits))[name]
    found = machine.SIGNATURE(code.addresses[name])
    found.code = code
    if not layout.accumulates(kernel):
        return found, None
    return found, machine.SIGNATURE(code.addresses[f"{name}_combine"])


def test_a_processor_without_fused_multiplication_is_reported(monkeypatch):
    with pytest.warns(RuntimeWarning, match=r"no AVX2 and FMA.*FGRAD_CPU_COMPILER=numpy"):
        target.report(OLDER["SSE2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target.report(OLDER["AVX2"])
        target.report(Target("aarch64-unknown-linux-gnu", "generic", "+neon"))


# --- ARM ------------------------------------------------------------------------------------------

ARM = Target("aarch64-unknown-linux-gnu", "generic", "+neon")
_AARCH64 = 183  # the machine in the header of an ELF file
_SAMPLES = {
    "chain": kernels.chain(1000), "chain of doubles": kernels.chain(1000, kernels.F64),
    "softmax": kernels.softmax(8, 100), "layer norm": kernels.layer_norm(8, 100),
    "layer norm backward": kernels.layer_norm_backward(200, 100),
    "columns": kernels.columns("max", 2, 100, 7),
}  # fmt: skip


def arm_code(text):
    """An object file and the assembly of LLVM text for ARM."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    parsed = llvm.parse_assembly(text, llvm.create_context())
    parsed.verify()
    return ARM.machine().emit_object(parsed), ARM.machine().emit_assembly(parsed)


def check_arm(image, assembly):
    assert image[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", image, 18) == (_AARCH64,)
    assert not re.search(r"\b[xyz]mm\d|%r[abcd]x|\bvmov", assembly)


@pytest.mark.parametrize("name", _SAMPLES)
def test_kernels_compile_for_neon(name):
    kernel = _SAMPLES[name]
    lanes = layout.lanes(kernel, ARM.vector_bytes)
    assert lanes == (2 if "doubles" in name else 4)
    text = module([render(kernel, "kernel", lanes)], 8 * ARM.vector_bytes)
    image, assembly = arm_code(text)
    check_arm(image, assembly)
    assert re.search(r"\tf\w+\tv\d+\.(4s|2d)", assembly)  # vectors, not one number at a time


def test_every_elementary_function_compiles_for_neon():
    for op, name in sorted(vmath.SUPPORTED):
        dtype = np.dtype(name)
        kernel = kernels.pointwise(op, (dtype,) * OPS[op].arity, dtype, 100)
        lanes = ARM.vector_bytes // dtype.itemsize
        image, assembly = arm_code(module([render(kernel, "kernel", lanes)], 128))
        check_arm(image, assembly)
        assert re.search(r"\t[a-z]+\tv\d+\.(4s|2d)", assembly), op


def test_what_runs_kernels_compiles_for_arm():
    image, assembly = arm_code(runtime.text(ARM.architecture, object.__basicsize__))
    check_arm(image, assembly)
    assert "yield" in assembly  # what workers do while they wait
    check_arm(*arm_code(runtime.loops(object.__basicsize__)))
