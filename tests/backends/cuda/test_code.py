"""CUDA C of kernels, run on the CPU: what `interpret` says they mean, in any order of threads."""

import importlib.util
import random

import numpy as np
import pytest

import fgrad
from fgrad import lax, nn
from fgrad import numpy as fnp
from fgrad.backends.cuda import forms, layout
from fgrad.backends.cuda.axes import tidy
from fgrad.backends.cuda.code import source
from fgrad.backends.cuda.forms import TILED, form_of
from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.backends.cuda.prelude import supports
from fgrad.compile.bounds import fault
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import (
    Bound,
    Compute,
    Kernel,
    Load,
    Map,
    Operand,
    Reduce,
    Scan,
    Store,
    show,
)
from fgrad.compile.plan import Loop, launches_of
from fgrad.compile.run_plan import run_plan
from fgrad.compile.verifier import check_kernel
from tests.backends.cpu import kernels as known
from tests.backends.cpu import random_kernels
from tests.backends.cpu.random_kernels import Maker, random_kernel
from tests.backends.cpu.test_render import same
from tests.backends.cpu.test_scans import EXACT, ROUNDED, buffers_of, scan
from tests.backends.cuda.emulated import Emulated, run_batch
from tests.backends.cuda.on_card import OnCard
from tests.backends.cuda.targets import CARD, SHIM
from tests.compile.test_lower import plan_of

F16, F64 = np.dtype("e"), np.dtype("d")


@pytest.fixture(params=[SHIM, CARD])
def module_of(request):
    """What makes a module of kernels."""
    return Emulated if request.param == "shim" else OnCard


def agree(module, kernel, buffers):
    """The code computes each bit of what the kernel means."""
    check_kernel(kernel)
    expected = [b.copy() for b in buffers]
    run_kernel(kernel, expected)
    for last_first in (False, True):
        got = [b.copy() for b in buffers]
        module.run(kernel, got, last_first=last_first)
        for o, (g, e) in enumerate(zip(got, expected, strict=True)):
            assert same(g, e), f"operand {o} of {show(kernel)}\n{form_of(tidy(kernel))}\n{g}\n{e}"


def close(module, kernel, buffers):
    """The code computes what rounding allows, the same bits in any order of threads."""
    check_kernel(kernel)
    got, again = ([b.copy() for b in buffers] for _ in range(2))
    module.run(kernel, got)
    found = fault(kernel, buffers, got)
    assert found is None, f"{found} of {show(kernel)}\n{form_of(tidy(kernel))}"
    module.run(kernel, again, last_first=True)
    assert all(same(g, e) for g, e in zip(got, again, strict=True)), "it depends on the order"


def drawn(kernel, *counts):
    """Normal numbers for the operands of a kernel."""
    data = np.random.default_rng(len(kernel.body))
    return [data.normal(size=n).astype(op.dtype)
            for n, op in zip(counts, kernel.operands, strict=True)]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_kernels(module_of, seed):
    made = [random_kernel(random.Random(100 * seed + i)) for i in range(40)]
    module = module_of([kernel for kernel, _ in made])
    for kernel, buffers in made:
        agree(module, kernel, buffers)


def test_random_kernels_whose_threads_hold_much_of_a_row(module_of, monkeypatch):
    monkeypatch.setattr(forms, "_BUSY", 4096)  # as if few threads kept a device busy
    monkeypatch.setattr(random_kernels, "SIZES", (1, 2, 3, 5, 16, 70, 300))
    monkeypatch.setattr(random_kernels, "LAST", (1, 2, 8, 16, 33, 70, 300, 1100, 4096))
    monkeypatch.setattr(random_kernels, "LIMIT", 60_000)
    made = [random_kernel(random.Random(4100 + i)) for i in range(30)]
    assert sum(form_of(tidy(kernel)).items > 1 for kernel, _ in made) > 3
    module = module_of([kernel for kernel, _ in made])
    for kernel, buffers in made:
        agree(module, kernel, buffers)


class MakerOfScans(Maker):
    """Grows kernels with scans whose results do not depend on the order."""

    def scan(self):
        v = self.rng.choice(self.values())
        dtype = self.dtype(v)
        monoids = ("max", "min") if dtype.kind in "fb" else ("max", "min", "add", "mul")
        free = len(self.inner) > 1 and self.free
        self.push(Scan(self.rng.choice(monoids), (self.tame(v),), dtype, free))

    def everything(self):
        self.free = self.rng.randrange(2) == 0
        self.load()
        others = () if self.free else (self.reduce,)
        for _ in range(self.rng.randrange(2, 9)):
            self.rng.choice((self.load, self.compute, self.compute, self.scan, *others))()
        self.scan()
        if not self.free and self.rng.randrange(3) == 0:
            self.rng.choice((self.accumulate, self.fold))()
        for _ in range(self.rng.randrange(1, 3)):
            self.store(self.rng.choice(self.values()))
        return self.kernel(), self.buffers


@pytest.mark.parametrize("seed", range(2))
def test_random_kernels_with_scans(module_of, seed):
    made = [MakerOfScans(random.Random(100 * seed + i)).everything() for i in range(40)]
    module = module_of([kernel for kernel, _ in made])
    for kernel, buffers in made:
        agree(module, kernel, buffers)


SHAPES = [
    ((), (1,)), ((), (65,)), ((3,), (33,)), ((2,), (5, 3, 18)), ((0,), (4,)), ((3,), (0,)),
    ((2,), (4096,)),
]  # fmt: skip
COLUMNS = [
    ((), (7, 5)), ((2,), (3, 2, 20)), ((2,), (0, 3)), ((2,), (3, 0)), ((2,), (999, 8)),
]  # fmt: skip


@pytest.mark.parametrize("free", [False, True])
def test_scans(module_of, free):
    data = np.random.default_rng(0)
    made = [
        (monoid, dtype, scan(monoid, *shape, dtype, free=free, backward=bool(k % 2)))
        for monoid, dtype in EXACT + ROUNDED
        for k, shape in enumerate(COLUMNS if free else SHAPES)
    ]
    made += [(m, d, scan(m, (), (33000,), d)) for m, d in (("add", known.F32), ("max", F64))
             if not free]  # fmt: skip
    module = module_of([kernel for _, _, kernel in made])
    for monoid, dtype, kernel in made:
        buffers = buffers_of(kernel, data, special="mul_" not in monoid)
        (agree if (monoid, dtype) in EXACT else close)(module, kernel, buffers)


def test_long_sums_keep_infinities_where_they_come_and_the_sign_of_zeros(module_of):
    made = [scan("add", (), (200, 2) if free else (200,), known.F32, free=free)
            for free in (False, True)]  # fmt: skip
    module = module_of(made)
    for kernel in made:
        x = np.full((200, kernel.length // 200), -0.0, np.float32)
        x[150], x[170] = np.inf, -np.inf
        y = np.zeros(x.size, np.float32)
        module.run(kernel, [x.reshape(-1), y])
        with np.errstate(invalid="ignore"):
            assert same(y.reshape(x.shape), np.cumsum(x, axis=0))


def scaled(rows, n, dtype=known.F32):
    """(x + y)·z of each row, with a y for each column and a z for each row, which is stored too."""
    row, column, each = Map(0, (n, 1)), Map(0, (0, 1)), Map(0, (1, 0))
    body = (
        Load(0, row, dtype), Load(1, column, dtype), Load(2, each, dtype),
        Compute("add", (0, 1), dtype), Compute("mul", (3, 2), dtype), Store(3, row, 4),
        Store(4, each, 2),
    )  # fmt: skip
    operands = (*[Operand(dtype)] * 3, *[Operand(dtype, written=True)] * 2)
    return Kernel("scaled", (rows,), (n,), operands, body)


def usual():
    """Kernels that programs are full of, with the sizes of their operands."""
    for n in (0, 1, 3, 1003, 4096):
        yield known.chain(n), (n, n, n)
        yield known.chain(n, F64), (n, n, n)
    for rows, n in ((0, 4), (3, 0), (5, 1), (300, 3), (7, 37), (70, 32), (2, 4096), (1, 20000)):
        yield known.softmax(rows, n), (rows * n,) * 2
        yield known.layer_norm(rows, n), (rows * n, n, n, rows * n, rows, rows)
        sizes = (rows * n, rows * n, n, rows, rows, rows * n, n, n)
        yield known.layer_norm_backward(rows, n), sizes
    for rows, n in ((3, 4096), (2, 12288), (5, 2049), (2, 8001), (70, 36), (5, 0), (0, 8)):
        yield scaled(rows, n), (rows * n, n, rows, rows * n, rows)
    for kept, rows, n in ((1, 1, 1), (3, 50, 37), (2, 0, 5), (1, 700, 4), (1, 5, 2000)):
        for monoid in ("add", "mul", "max"):
            yield known.columns(monoid, kept, rows, n), (kept * rows * n, kept * n)
            yield known.columns(monoid, kept, rows, n, F64), (kept * rows * n, kept * n)
    for outer, inner in (((), (70001,)), ((2,), (1 << 16,)), ((4, 3), (5, 7))):
        count = int(np.prod(outer, dtype=int) * np.prod(inner))
        for monoid in ("add", "max", "mul"):
            yield known.reduction(monoid, outer, inner), (count, count // int(np.prod(inner)))


def test_usual_kernels(module_of):
    made = list(usual())
    module = module_of([kernel for kernel, _ in made])
    for kernel, counts in made:
        close(module, kernel, drawn(kernel, *counts))


def test_a_store_of_the_last_pass_may_overwrite_what_it_reads(module_of):
    made = [known.softmax(3, 4096), known.softmax(9, 33), known.softmax(2, 20000)]
    module = module_of(made)
    for kernel in made:
        (x, y) = drawn(kernel, *(kernel.rows * kernel.length,) * 2)
        module.run(kernel, [x, y])
        both = x.copy()
        for last_first in (False, True):
            both[...] = x
            module.run(kernel, [both, both], last_first=last_first)
            assert same(both, y)


def transposed(planes, a, b, stored):
    """x of [planes, b, a] with its last axes exchanged, plus a row of y."""
    dtype = known.F32 if stored == F16 else stored
    body = (
        Load(0, Map(0, (a * b, 1, a)), dtype), Load(1, Map(0, (0, b, 1)), dtype),
        Compute("add", (0, 1), dtype), Store(2, Map(0, (a * b, b, 1)), 2),
    )  # fmt: skip
    operands = (Operand(stored), Operand(stored), Operand(stored, written=True))
    return Kernel("transposed", (planes, a), (b,), operands, body)


def test_transposes_go_through_tiles(module_of):
    sizes = ((1, 16, 16), (2, 33, 70), (3, 100, 64), (1, 64, 257))
    made = [(transposed(*size, dtype), *size) for size in sizes
            for dtype in (known.F32, F16, F64, np.dtype("b"))]  # fmt: skip
    module = module_of([kernel for kernel, *_ in made])
    for kernel, planes, a, b in made:
        assert form_of(tidy(kernel)).scheme == TILED
        agree(module, kernel, drawn(kernel, planes * a * b, a * b, planes * a * b))


def test_a_store_for_each_segment_may_overwrite_what_all_of_it_reads(module_of):
    step, each = Map(0, (200, 40, 1)), Map(0, (5, 1, 0))
    body = (
        Load(0, step, known.F32), Load(1, each, known.F32), Compute("mul", (0, 1), known.F32),
        Compute("add", (1, 1), known.F32), Store(2, step, 2), Store(3, each, 3),
    )  # fmt: skip
    operands = (*[Operand(known.F32)] * 2, *[Operand(known.F32, written=True)] * 2)
    kernel = Kernel("segments", (3,), (5, 40), operands, body)
    module = module_of([kernel])
    x, a, y, _ = drawn(kernel, 600, 15, 600, 15)
    for last_first in (False, True):
        same_place = a.copy()
        module.run(kernel, [x, same_place, y, same_place], last_first=last_first)
        assert same(same_place, a + a)
        assert same(y.reshape(15, 40), x.reshape(15, 40) * a[:, None])


@pytest.mark.parametrize("wide", [False, True])
def test_indices_take_64_bits_where_they_must(module_of, wide):
    size = 2**31 + 5 if wide else 70
    bound = Bound(size, 0, (33, 1))
    load = Load(0, Map(0, (33, 1)), known.F32, (bound,))
    body = (load, Reduce("add", 0, known.F32), Compute("sub", (0, 1), known.F32),
            Store(1, Map(0, (33, 1)), 2))  # fmt: skip
    operands = (Operand(known.F32), Operand(known.F32, written=True))
    kernel = Kernel("bounded", (5,), (33,), operands, body)
    assert form_of(tidy(kernel)).wide == wide
    close(module_of([kernel]), kernel, drawn(kernel, 165, 165))


def test_kernels_beyond_32_bits_have_as_many_blocks_and_bytes_as_they_need():
    n = 3 << 31
    for kernel, grid in ((known.chain(n), n // 1024), (known.softmax(3 << 19, 4096), 3 << 19)):
        assert form_of(tidy(kernel)).wide
        assert [f.grid for f in layout.launches(kernel)] == [grid]
        assert "typedef long long I;" in source(kernel, "wide")
    rows = 1 << 26
    summed = known.columns("add", 1, rows, 64)
    first, combine = layout.launches(summed)
    assert (first.grid * 64 * 4, combine.grid) == (layout.scratch_bytes(summed), 2)
    assert layout.scratch_bytes(summed) < rows * 64 * 4 // 256


# Several kernels at once


def test_kernels_of_one_key_run_by_one_launch():
    sizes = (5, 1001, 3001, 66)
    check_batch([known.chain(n) for n in sizes], [(n,) * 3 for n in sizes])
    rows = ((70, 33), (3, 33), (700, 35))
    check_batch([known.columns("add", 1, *r) for r in rows], [(m * n, n) for m, n in rows])
    rows = ((2, 1 << 16), (3, 1 << 16))
    check_batch([known.softmax(*r) for r in rows], [(m * n,) * 2 for m, n in rows])


def check_batch(made, counts):
    assert layout.batches(made) == [list(range(len(made)))]
    before = [drawn(k, *c) for k, c in zip(made, counts, strict=True)]
    after = [[b.copy() for b in buffers] for buffers in before]
    run_batch(made, after)
    alone = Emulated(made)
    for kernel, buffers, got in zip(made, before, after, strict=True):
        alone.run(kernel, buffers)
        assert all(same(g, e) for g, e in zip(got, buffers, strict=True))


def test_batches_are_of_one_key_and_fit_the_parameters_of_a_launch():
    made = [known.chain(4 * n + 4) for n in range(900)] + [known.softmax(3, 5)]
    groups = layout.batches(made)
    assert sorted(i for group in groups for i in group) == list(range(901))
    assert groups[-1] == [900]
    assert len(groups) > 2
    for group in groups:
        members = [made[i] for i in group]
        pointers = 8 * sum(len(k.operands) for k in members) + 8
        assert pointers + len(layout.batch_words(members)) <= layout.PARAMETER_BYTES


# Programs

X = np.random.default_rng(3).normal(size=(6, 40)).astype(np.float32)
MANY = np.random.default_rng(5).normal(size=(2120, 136)).astype(np.float32)
IMAGE = np.random.default_rng(4).normal(size=(2, 8, 6, 6)).astype(np.float32)
Y = (100 * X).astype(np.int32)
INDEX = np.array([3, 0, 5, 5, 2])


def backward(f):
    """A function's value and the gradient of its sum."""

    def both(*xs):
        value, pull = fgrad.vjp(f, *xs)
        return [value, *pull(fnp.ones_like(value))]

    return both


def placed(x, k):
    """Slices whose places are computed, read and overwritten."""
    part = lax.dynamic_slice(x, (k, k + 1), (2, 9))
    return [part, lax.dynamic_update_slice(x + 1, part * 2, (k, 5 * k))]


PROGRAMS = {
    "softmax": (backward(lambda x: nn.softmax(x) * x), X),
    "layer norm": (backward(nn.layer_norm), X, X[0], X[1]),
    "layer norm of many rows": (backward(nn.layer_norm), MANY, MANY[0], MANY[1]),
    "rms norm": (backward(nn.rms_norm), X, X[0]),
    "group norm": (backward(lambda x: nn.silu(nn.group_norm(x, 4))), IMAGE),
    "loss": (backward(lambda x: nn.cross_entropy(x, np.arange(6))), X),
    "transposes": (lambda x: [x.T + 1, fnp.flip(x, 1), x[::-2, 3:], fnp.roll(x, 3, 1)], X),
    "pads": (backward(lambda x: fnp.concatenate([fnp.pad(x, 2), x[:3, :10].T @ x[:3]], 1)[:8]), X),
    "gather": (backward(lambda x: fnp.take(x, INDEX, axis=0)), X),
    "cumulative": (lambda x: [lax.cumsum(x, 0), lax.cumsum(x, 1, True), lax.cumprod(x, 1)], X),
    "sums": (lambda x: [x.sum(0), x.sum(1), x.sum(), x.max(0), fnp.argmax(x, 1), x.var(0)], X),
    "patches": (placed, X, np.int32(2)),
    "random": (lambda x: [x + fgrad.random.normal(fgrad.random.key(3), x.shape)], X),
    "narrow": (backward(lambda x: nn.softmax(fnp.tanh(x))), X.astype(np.float16)),
    "complex": (lambda x: [x * x.conj() + 1j, fnp.abs(x), x.sum(0)], X + 1j * X[::-1]),
    "integers": (lambda x: [x // 3, x % 5, x << 2, fnp.sum(x, 0), fnp.cumsum(x, 1)], Y),
}


def kernels_of(steps):
    for step in steps:
        for launch in launches_of(step):
            yield launch.kernel
        for inner in step.plans if isinstance(step, Loop) else ():
            yield from kernels_of(inner.steps)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(module_of, name):
    f, *xs = PROGRAMS[name]
    plan, consts = plan_of(f, *xs, supports=supports)
    module = module_of(kernels_of(plan.steps))

    def run(kernel, buffers):
        close(module, kernel, buffers)
        module.run(kernel, buffers)

    for got, expected in zip(run_plan(plan, [*consts, *xs], run), f(*xs), strict=True):
        expected = np.asarray(expected)
        assert got.dtype == expected.dtype
        tolerance = 1e-2 if got.dtype == F16 else 1e-4
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy, which loads NVRTC, is not installed"
)
@pytest.mark.parametrize("arch", ["80", "90", "100"])
def test_kernels_compile_for_all_architectures(arch):
    made = [random_kernel(random.Random(i))[0] for i in range(20)]
    made += [kernel for kernel, _ in usual()]
    made += [scan(m, (2,), (70, 3), d, free=free) for m, d in EXACT for free in (False, True)]
    for name in ("group norm", "random", "gather", "narrow"):
        f, *xs = PROGRAMS[name]
        made += kernels_of(plan_of(f, *xs, supports=supports)[0].steps)
    assert compile_source(Emulated(made, build=None).text, arch)


def test_kernels_of_one_key_have_one_text_and_other_words():
    one, other = known.softmax(70, 4088), known.softmax(70, 4092)
    assert layout.key(one) == layout.key(other)
    assert layout.words(one) != layout.words(other)
    module = Emulated([one])
    close(module, other, drawn(other, *(70 * 4092,) * 2))


def golden_kernels():
    yield "pointwise", known.chain(1003)
    yield "transposed", transposed(2, 64, 128, known.F32)
    yield "softmax", known.softmax(16384, 4096)
    yield "softmax_of_few_long_rows", known.softmax(4, 1 << 20)
    yield "softmax_of_short_rows", known.softmax(4096, 33)
    yield "layer_norm_backward", known.layer_norm_backward(16384, 4096)
    yield "columns", known.columns("add", 1, 16384, 4096)
    yield "cumulative_sum", scan("add", (4096,), (4096,), known.F32)
    yield "cumulative_sum_by_column", scan("add", (), (4096, 512), known.F32, free=True)


@pytest.mark.parametrize("name", [name for name, _ in golden_kernels()])
def test_code_is_as_agreed(golden, name):
    kernel = dict(golden_kernels())[name]
    functions = "".join(f"// {f}\n" for f in layout.launches(kernel))
    golden.check(f"cuda/{name}.cu", functions + source(kernel, name))
