"""Convolutions in up to three dimensions as register-blocked loops, without windows in memory.

The input is copied once into padded rows (and, under strides, columns sorted by remainder), so
that the inner loops read whole vectors; `direct` and `reduced` are two forms of these. A dilated
input, as in the gradient of a strided convolution, is not filled with zeros: positions of one
remainder meet the same places of the window, and are a convolution of their own.

All other convolutions keep the rule that gathers windows and calls BLAS.
"""

from collections.abc import Iterator
from math import prod

import numpy as np

from fgrad.backends.cpu.direct import direct, is_direct
from fgrad.backends.cpu.packing import Conv, Ints
from fgrad.backends.cpu.reduced import is_reduced, reduced
from fgrad.backends.cpu.routines import SCALARS, Phase, Routine, Write, places
from fgrad.compile.plan import Library, View
from fgrad.core import dtypes

LEAST_WORK = 1 << 15  # products; below, compiling takes longer than many calls
_AXES = 3
_PARTS = 16  # remainders of positions
_NARROW = (np.dtype(np.float16), np.dtype(dtypes.bfloat16))


def routine_of(step: Library, vector_bytes: int, registers: int) -> Routine | None:
    """The routine of a convolution; None where the eager rule is the better one, or the only."""
    conv = _conv(step, vector_bytes, registers)
    if conv is None:
        return None
    dilation = _triple(step.eqn.params["lhs_dilation"], 1)
    if max(dilation) > 1:
        return _of_parts(conv, dilation)
    work = _work(conv)
    if work < LEAST_WORK or prod(conv.window) == 1:
        return None
    if is_direct(conv):
        return direct(conv, work)
    return reduced(conv, work) if is_reduced(conv) else None


def _work(c: Conv) -> int:
    """Products of elements."""
    return c.groups * c.batch * c.features * c.outputs * prod(c.window) * prod(c.positions)


def _triple(values: Ints, other: int) -> Ints:
    return (*(other,) * (_AXES - len(values)), *values)


def _conv(step: Library, vector_bytes: int, registers: int) -> Conv | None:
    p = step.eqn.params
    found = places(step, _NARROW)
    if found is None or not 1 <= len(p["window_strides"]) <= _AXES:
        return None
    d = p["dimension_numbers"]
    views = zip(found, (d.lhs_spec, d.rhs_spec, d.out_spec), strict=True)
    (xn, xs), (wn, ws), (on, os) = (_ordered(v, spec) for v, spec in views)
    groups, by_batch = p["feature_group_count"], p["batch_group_count"] > 1
    if by_batch:
        if groups > 1:
            return None
        groups = p["batch_group_count"]
    dtype = step.eqn.inputs[0].aval.dtype
    scalar = SCALARS.get(dtype, "float")
    return Conv(
        dtype.name, scalar, vector_bytes // (4 if scalar == "float" else 8), registers,
        groups, by_batch, on[0], wn[1], wn[0] // groups, xn[2:], wn[2:], on[2:],
        _triple(p["window_strides"], 1), _triple(p["rhs_dilation"], 1),
        _triple(tuple(lo for lo, _ in p["padding"]), 0), xs, ws, os,
    )  # fmt: skip


def _ordered(view: View, spec: Ints) -> tuple[Ints, Ints]:
    """Shape and strides in the order batch, features, depth, rows, columns."""
    shape, strides = (tuple(x[i] for i in spec) for x in (view.shape, view.strides))
    return (
        (*shape[:2], *_triple(shape[2:], 1)),
        (*strides[:2], *_triple(strides[2:], 0)),
    )


# ------------------------------------------------------------------------------ dilated input


def _of_parts(c: Conv, dilation: Ints) -> Routine | None:
    """One routine after the other for positions of each remainder."""
    steps = zip(dilation, c.steps, c.dilation, strict=True)
    if prod(dilation) > _PARTS or any(d > 1 and (s > 1 or e > 1) for d, s, e in steps):
        return None
    if _work(c) // prod(dilation) < LEAST_WORK:
        return None
    parts = list(_parts(c, dilation))
    if not all(is_direct(part) for part in parts):
        return None
    found = [direct(part, _work(part)) for part in parts]
    codes: list[Write] = []
    phases: list[Phase] = []
    for one in found:
        phases += [p._replace(code=p.code + len(codes)) for p in one.phases if p.units]
        codes += one.codes
    return Routine(
        ("parts", *(one.key for one in found)), tuple(codes), tuple(phases), 4, c.lanes,
        max(one.scratch_bytes for one in found),
    )  # fmt: skip


def _parts(c: Conv, dilation: Ints) -> Iterator[Conv]:
    """Position ``i·dilation + r`` meets place k where ``r + k - low`` is a multiple of dilation."""
    for r in np.ndindex(*dilation):
        axes = list(zip(dilation, r, c.low, c.window, c.positions, strict=True))
        if any(at >= p for _, at, _, _, p in axes):
            continue
        first = tuple((lo - at) % d for d, at, lo, _, _ in axes)
        window = tuple(-(-(k - f) // d) for (d, _, _, k, _), f in zip(axes, first, strict=True))
        empty = min(window) < 1  # no place of the window meets an element
        yield c._replace(
            features=0 if empty else c.features,
            window=(1, 1, 1) if empty else window,
            positions=tuple(-(-(p - at) // d) for d, at, _, _, p in axes),
            low=tuple((lo - at - f) // d for (d, at, lo, _, _), f in zip(axes, first, strict=True)),
            w=(*c.w[:2], *(s * d for s, d in zip(c.w[2:], dilation, strict=True))),
            out=(*c.out[:2], *(s * d for s, d in zip(c.out[2:], dilation, strict=True))),
            w_at=sum(f * s for f, s in zip(first, c.w[2:], strict=True)),
            out_at=sum(at * s for at, s in zip(r, c.out[2:], strict=True)),
        )
