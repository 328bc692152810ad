"""What makes a kernel well formed."""

import numpy as np

from fgrad.compile.kernel import (
    COMPUTED,
    CONVERSIONS,
    FULL,
    MAPPED,
    MONOIDS,
    SCANS,
    Accumulate,
    Bound,
    Compute,
    Const,
    DType,
    Fold,
    Index,
    Instr,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
    levels,
    uses,
)  # fmt: skip
from fgrad.core.scalar import OPS


def check_kernel(kernel: Kernel) -> None:
    """Raise `AssertionError` unless a kernel is well formed."""
    axes = len(kernel.outer) + len(kernel.inner)
    assert kernel.inner, "a kernel has at least one inner axis"
    assert 0 <= kernel.kept <= len(kernel.outer), "kept counts outer axes"
    level = levels(kernel)
    for i, instr in enumerate(kernel.body):
        assert all(0 <= a < i for a in uses(instr)), f"%{i} uses what comes later"
        for a in uses(instr):
            assert hasattr(kernel.body[a], "dtype"), f"%{i} uses %{a}, which is no value"
        _check_maps(instr, axes, f"%{i}")
        match instr:
            case Load() | Const() | Index() | Compute() | Reduce() | Scan():
                assert instr.dtype in COMPUTED, f"%{i} computes in {instr.dtype}"
        match instr:
            case Load(operand=o):
                stored = kernel.operands[o].dtype
                kept = instr.dtype == (stored if stored in COMPUTED else np.dtype("f"))
                assert kept, f"%{i} loads {stored} as {instr.dtype}"
            case Compute(op=op, args=args):
                known = op in CONVERSIONS or (op in OPS and OPS[op].arity == len(args))
                assert known, f"%{i}: no {op} of {len(args)} operands"
            case Reduce(monoid=m, arg=arg):
                assert m in MONOIDS, f"%{i}: no monoid {m}"
                assert instr.dtype == _dtype(kernel, arg), f"%{i} changes the dtype"
                assert level[arg] == FULL or kernel.length == 1, f"%{i} reduces a row value"
            case Scan(monoid=m, args=args):
                known = m in SCANS and len(args) == 1 + m.startswith("mul_")
                assert known, f"%{i}: no scan of {len(args)} values by {m}"
                same = all(instr.dtype == _dtype(kernel, a) for a in args)
                assert same, f"%{i} changes the dtype"
                _check_free(kernel, instr, f"%{i}")
            case Store(operand=o) | Accumulate(operand=o) | Fold(operand=o):
                assert kernel.operands[o].written, f"%{i} writes to an operand that is read only"
        if isinstance(instr, Accumulate):
            still = instr.map.strides[kernel.kept : len(kernel.outer)]
            assert not any(still), f"%{i} accumulates over axes along which it moves"
        if isinstance(instr, Fold):
            assert not instr.map.strides[-1], f"%{i} folds an axis along which it moves"


def _check_free(kernel: Kernel, scan: Scan, name: str) -> None:
    scans = [i for i in kernel.body if isinstance(i, Scan)]
    assert all(i.free == scan.free for i in scans), f"{name}: scans leave out different axes"
    if scan.free:
        others = any(isinstance(i, Reduce | Accumulate | Fold) for i in kernel.body)
        assert not others, f"{name} leaves an axis out, over which another instruction reduces"
        assert len(kernel.inner) > 1, f"{name} has no axis"


def _dtype(kernel: Kernel, value: int) -> DType:
    dtype: DType = kernel.body[value].dtype  # type: ignore[union-attr]
    return dtype


def _check_maps(instr: Instr, axes: int, name: str) -> None:
    parts: list[Map | Bound] = [instr.map] if isinstance(instr, MAPPED) else []
    parts += instr.bounds if isinstance(instr, Load) else ()
    for part in parts:
        assert len(part.strides) == axes, f"{name}: a map needs a stride for each axis"
