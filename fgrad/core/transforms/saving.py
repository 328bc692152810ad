"""Pullbacks in files: records as data, residuals as arrays.

A record names its primitive, whose rule another process finds by that name. A rule of the user's
is staged to a program. What is left are parameters and static residuals: numbers, types, programs.
"""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import FgradError, SavingError
from fgrad.core.evaluate import WEAK, ArrayImpl
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Primitive, Value, all_primitives
from fgrad.core.tracing import Array, Tracer
from fgrad.core.transforms.custom import VJPCall
from fgrad.core.transforms.pullback import Pullback
from fgrad.core.transforms.stage import eval_jaxpr, stage
from fgrad.core.transforms.tape import Record, Tape


class _Residual:
    """Stands in a saved record for the residual of that number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class _Program:
    """The backward half of a user's rule, staged.

    Attributes:
        jaxpr: Residuals and cotangents → the cotangents that are not zero.
        consts: What the rule closed over.
        zero: Which cotangents are.
    """

    __slots__ = ("consts", "jaxpr", "zero")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Value], zero: Sequence[bool]) -> None:
        self.jaxpr = jaxpr
        self.consts = consts
        self.zero = zero

    def __call__(
        self, _needed: Any, residuals: Sequence[Any], cts: Sequence[Value | None], _params: Any
    ) -> list[Value | None]:
        *kept, out_avals = residuals
        full = [
            basis.zeros(a.tangent()) if ct is None else ct
            for ct, a in zip(cts, out_avals, strict=True)
        ]
        back = iter(eval_jaxpr(self.jaxpr, self.consts, *kept, *full))
        return [None if z else next(back) for z in self.zero]


def reduce_pullback(pullback: Pullback) -> tuple[Any, ...]:
    """How a pullback is pickled: its records without arrays, and the arrays.

    Raises:
        SavingError: It holds tracers, or a Python function that no other process can find.
    """
    tape = pullback._tape
    arrays: dict[int, tuple[int, Value]] = {}
    records = None
    if tape.records is not None:
        records = [_saved_record(r, arrays) for r in tape.records]
    frame = (
        tuple(tape.inputs), tuple(tape.outputs), tuple(tape.in_avals), tuple(tape.out_avals),
        tape.size, pullback._in_tree, pullback._out_tree, pullback._inexact,
    )  # fmt: skip
    try:
        structure = pickle.dumps((records, frame))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _unsavable(tape.records or (), records or (), error) from error
    return _restored, (structure, [_saved_array(x) for _, x in arrays.values()])


def _restored(structure: bytes, saved: Sequence[Any]) -> Pullback:
    records, frame = pickle.loads(structure)
    arrays = [_restored_array(*x) for x in saved]
    *tape_fields, in_tree, out_tree, inexact = frame
    restored = None if records is None else [_restored_record(r, arrays) for r in records]
    return Pullback(Tape(restored, *tape_fields), in_tree, out_tree, inexact)


# -------------------------------------------------------------------------------------- records


def _saved_record(record: Record, arrays: dict[int, tuple[int, Value]]) -> tuple[Any, ...]:
    rule, residuals = _saved_rule(record)

    def saved(x: Any) -> Any:
        if not isinstance(x, Array):
            return x
        if isinstance(x, Tracer):
            raise SavingError(
                f"this pullback cannot be saved while a transform runs: a residual of "
                f"{record.name} is the traced {x.aval}; save it outside, where values are known"
            )
        return _Residual(arrays.setdefault(id(x), (len(arrays), x))[0])

    return (
        record.name, rule, [saved(x) for x in residuals], record.params, tuple(record.inputs),
        tuple(record.outputs), record.single, record.source, record.forward,
    )  # fmt: skip


def _restored_record(fields: tuple[Any, ...], arrays: Sequence[Value]) -> Record:
    name, rule, residuals, *rest = fields
    if isinstance(rule, Primitive):
        pullback: Any = rule.vjp
        rule = pullback.backward
    found = [arrays[x.number] if isinstance(x, _Residual) else x for x in residuals]
    return Record(name, rule, found, *rest)


def _saved_rule(record: Record) -> tuple[Any, Sequence[Any]]:
    """The backward half as data, and its residuals."""
    backward = record.backward
    owner = getattr(backward, "__self__", None)
    if isinstance(owner, VJPCall):
        return _staged_rule(owner, record)
    for prim in all_primitives():
        if not isinstance(prim.vjp, Absent) and prim.vjp.backward is backward:
            return prim, record.residuals
    return backward, record.residuals


def _staged_rule(call: VJPCall, record: Record) -> tuple[_Program, list[Any]]:
    *kept, out_avals = record.residuals
    values = [x for x in kept if isinstance(x, Array)]
    zero: list[bool] = []

    def run(*args: Value) -> list[Value]:
        given = iter(args[: len(values)])
        full = [next(given) if isinstance(x, Array) else x for x in kept]
        back = call.bwd(full, args[len(values) :])
        zero[:] = [c is None for c in back]
        return [c for c in back if c is not None]

    types = [*(x.aval for x in values), *(a.tangent() for a in out_avals)]
    try:
        jaxpr, consts = stage(run, types, f"saving the pullback of {call.name}")
    except FgradError as error:
        raise SavingError(
            f"this pullback cannot be saved: the bwd rule of {call.name} cannot be staged to a "
            f"program ({str(error).splitlines()[0]}); write the rule with fgrad functions of "
            f"values that need not be known"
        ) from error
    return _Program(jaxpr, consts, zero), [*values, out_avals]


def _unsavable(records: Sequence[Record], saved: Sequence[Any], error: Exception) -> SavingError:
    """The error that names the first record which cannot be pickled."""
    culprit = ""
    for record, fields in zip(records, saved, strict=True):
        try:
            pickle.dumps(fields)
        except (pickle.PicklingError, AttributeError, TypeError):
            culprit = f" {record.name}, asked for at {record.source}, holds what stays here:"
            break
    return SavingError(
        f"this pullback cannot be saved:{culprit} {error}; other processes find functions and "
        f"classes by module and name, so define them at the top of a module"
    )


# --------------------------------------------------------------------------------------- arrays


def _saved_array(x: Value) -> tuple[Any, bool, tuple[int, ...], tuple[int, ...]]:
    """A buffer, its weakness, shape and strides; strides () say that it is a plain array."""
    data = x._data
    if type(data) is not np.ndarray or data.flags.c_contiguous or not data.itemsize:
        return data, x.weak_type, data.shape, ()
    return np.ascontiguousarray(data[_once(data)]), x.weak_type, data.shape, _compact(data)


def _restored_array(data: Any, weak: bool, shape: tuple[int, ...], strides: Any) -> ArrayImpl:
    if strides:
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        start = -sum(r for r in reach if r < 0)
        memory = np.zeros(start + sum(r for r in reach if r > 0) + data.itemsize, np.uint8)
        full: Any = np.ndarray(shape, data.dtype, memory, start, strides)
        full[_once(full)] = data
        data = full
    return ArrayImpl(data, WEAK if weak else 0)


def _once(data: Any) -> tuple[slice, ...]:
    """The part of an array that holds each element of memory once, of broadcast axes one."""
    return tuple(slice(0, 1) if s == 0 else slice(None) for s in data.strides)


def _compact(data: Any) -> tuple[int, ...]:
    """Strides in little memory that NumPy treats like those of `data`.

    The order in which a sum adds depends on which axis is innermost, which axes run backwards and
    which are adjacent in memory: in another layout the last bits of a cotangent would differ.
    """
    sizes, old = data.shape, [abs(s) for s in data.strides]
    new = [0] * data.ndim
    inner = -1
    for i in sorted((i for i, s in enumerate(old) if s and sizes[i] > 1), key=lambda i: old[i]):
        if inner < 0:
            new[i] = data.itemsize * (1 if old[i] == data.itemsize else 2)
        else:
            adjacent = old[i] == sizes[inner] * old[inner]
            new[i] = sizes[inner] * new[inner] + (0 if adjacent else data.itemsize)
        inner = i
    return tuple(-n if s < 0 else n for n, s in zip(new, data.strides, strict=True))
