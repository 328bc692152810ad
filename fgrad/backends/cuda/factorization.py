"""Factorisations and solves on the device, by kernels of our own: one block a matrix.

They can be captured, need no host and give the same bits every time; pivots and signs are those of
LAPACK. Singular and indefinite matrices give NaN, as the eager rules do.
"""

from collections.abc import Sequence
from math import prod
from string import Template
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cuda import copying
from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    WORKSPACE,
    Call,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.factorization_text import CHOLESKY, LU, NUMBERS, ORDERED, QR, TRIANGLE
from fgrad.backends.cuda.texts import THREADS, Words, named, type_of
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, View
from fgrad.core import dtypes

_ALIGNMENT = 256
_CHUNK = 32  # right-hand sides of a block
_INTEGER = np.dtype(np.int32)


class Room:
    """Takes parts of the workspace.

    Attributes:
        used: Bytes that are taken.
    """

    def __init__(self) -> None:
        self.used = 0

    def take(self, count: int, dtype: DType) -> Place:
        """Room for so many numbers."""
        place = Place(WORKSPACE, 0, self.used)
        self.used += -(-count * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        return place


class Stack(NamedTuple):
    """A stack of matrices.

    Attributes:
        many: How many.
        rows: Of each.
        columns: Of each.
        dtype: Of their numbers.
    """

    many: int
    rows: int
    columns: int
    dtype: DType


def stack_of(step: Library, operand: int = 0) -> Stack:
    """The matrices that an operand holds."""
    aval = step.eqn.inputs[operand].aval
    *lead, rows, columns = aval.shape
    return Stack(prod(lead), rows, columns, aval.dtype)


def copied(view: View, dtype: DType, place: Place, to: Place) -> KernelCall:
    """The launch that makes rows of an operand contiguous."""
    return copying.call(view, range(len(view.shape)), dtype, (place, to))


def call(
    kind: str, text: Template, blocks: int, dtype: DType, places: Sequence[Place],
    sizes: dict[str, int], flags: dict[str, Any] | None = None,
) -> KernelCall:  # fmt: skip
    """A launch of a block for each matrix.

    Args:
        kind: Part of its name.
        text: Its text.
        blocks: How many there are.
        dtype: Of numbers.
        places: Of its operands.
        sizes: What it is given as words, by name.
        flags: What becomes part of the text.
    """
    word = Words()
    fields = {name: word(n) for name, n in sizes.items()} | (flags or {})
    body = NUMBERS + text.substitute(
        fields, C=type_of(dtype), R=type_of(dtypes.real_dtype(dtype)), COUNT=len(word.values)
    )  # fmt: skip
    name, source = named(kind, body)
    return KernelCall(
        name, source, (blocks, 1, 1), (THREADS, 1, 1), tuple(places), bytes(word)
    )  # fmt: skip


def _is_empty(step: Library) -> bool:
    return not any(v.aval.size for v in step.eqn.outputs)


def cholesky(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes the lower factor of each matrix."""
    s, out = stack_of(step), Place(OUTPUT, 0)
    if _is_empty(step):
        return LibraryPlan("factorisation of no elements", ())
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), out),
        call("cholesky", CHOLESKY, s.many, s.dtype, (out,), {"N": s.rows}),
    )
    return LibraryPlan("Cholesky factorisation by blocks", calls)


def lu(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes triangles, pivots and the order of rows."""
    s = stack_of(step)
    if _is_empty(step):
        return LibraryPlan("factorisation of no elements", ())
    outs = [Place(OUTPUT, i) for i in range(3)]
    calls = (copied(views[0], s.dtype, Place(INPUT, 0), outs[0]), _lu(s, outs))
    return LibraryPlan("LU factorisation by blocks", calls)


def _lu(s: Stack, places: Sequence[Place]) -> KernelCall:
    return call("lu", LU, s.many, s.dtype, places, {"M": s.rows, "N": s.columns})


def qr(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes Q and R."""
    s, room = stack_of(step), Room()
    if _is_empty(step):
        return LibraryPlan("factorisation of no elements", ())
    work = room.take(s.many * s.rows * s.columns, s.dtype)
    tau = room.take(s.many * min(s.rows, s.columns), s.dtype)
    sizes = {"M": s.rows, "N": s.columns, "KEPT": step.eqn.outputs[0].aval.shape[-1]}
    places = (work, tau, Place(OUTPUT, 0), Place(OUTPUT, 1))
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), work),
        call("qr", QR, s.many, s.dtype, places, sizes),
    )
    return LibraryPlan("QR factorisation by blocks", calls, max(room.used, _ALIGNMENT))


def triangular_solve(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes the solutions of triangular systems."""
    s, room, params = stack_of(step), Room(), step.eqn.params
    if _is_empty(step):
        return LibraryPlan("solution of no elements", ())
    a, out = room.take(s.many * s.rows * s.rows, s.dtype), Place(OUTPUT, 0)
    left = params["left_side"]
    shape = step.eqn.outputs[0].aval.shape
    many = shape[-1] if left else shape[-2]
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), a),
        copied(views[1], s.dtype, Place(INPUT, 1), out),
        _triangle(s, many, (a, out), left=left, **{
            k: params[k] for k in ("lower", "transpose_a", "conjugate_a", "unit_diagonal")
        }),
    )  # fmt: skip
    return LibraryPlan("triangular solve by blocks", calls, room.used)


def _triangle(
    s: Stack, many: int, places: Sequence[Place], *,
    left: bool, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool,
) -> KernelCall:  # fmt: skip
    # X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
    turned = transpose_a == left
    flags = {
        "TURNED": turned, "CONJUGATED": conjugate_a, "LEFT": left, "UNIT": unit_diagonal,
        "FORWARD": lower != turned,
    }  # fmt: skip
    return call(
        "triangle", TRIANGLE, s.many * -(-many // _CHUNK), s.dtype, places,
        {"N": s.rows, "MANY": many}, {k: int(v) for k, v in flags.items()},
    )  # fmt: skip


def solve(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes the solutions of linear systems."""
    s, room = stack_of(step), Room()
    if _is_empty(step):
        return LibraryPlan("solution of no elements", ())
    many, out = step.eqn.outputs[0].aval.shape[-1], Place(OUTPUT, 0)
    factors = room.take(s.many * s.rows * s.rows, s.dtype)
    pivots, order = (room.take(s.many * s.rows, _INTEGER) for _ in range(2))
    right = room.take(s.many * s.rows * many, s.dtype)
    plain = {"left": True, "transpose_a": False, "conjugate_a": False}
    calls: list[Call] = [
        copied(views[0], s.dtype, Place(INPUT, 0), factors),
        copied(views[1], s.dtype, Place(INPUT, 1), right),
        _lu(s, (factors, pivots, order)),
        call("ordered", ORDERED, s.many, s.dtype, (right, factors, order, out),
             {"N": s.rows, "MANY": many}),
        _triangle(s, many, (factors, out), lower=True, unit_diagonal=True, **plain),
        _triangle(s, many, (factors, out), lower=False, unit_diagonal=False, **plain),
    ]  # fmt: skip
    return LibraryPlan("solve by an LU factorisation", tuple(calls), room.used)
