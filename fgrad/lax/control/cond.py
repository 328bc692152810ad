"""The primitive `cond`: one of several programs, chosen by an index."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Pullback, Unknown, Value
from fgrad.core.program import run_program
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import (
    Linearized,
    batch_jaxpr,
    derived,
    jvp_jaxpr,
    linearize_jaxpr,
    reachable,
    transpose_jaxpr,
)
from fgrad.lax.compare import eq
from fgrad.lax.control.lanes import active_only, any_lane, choose
from fgrad.lax.control.programs import (
    Flags,
    Values,
    given,
    is_constant,
    program,
    rearranged,
    run_inner,
    spread,
    tangent_flags,
)

Branches = tuple[Jaxpr, ...]


def _abstract(index: ShapedArray, *avals: ShapedArray, branches: Branches) -> list[ShapedArray]:
    if index.shape != () or index.dtype != np.int32:
        raise DtypeError(f"cond: the index must be i32[], got {index}")
    wanted = [(a.shape, a.dtype) for a in branches[0].in_avals]
    if [(a.shape, a.dtype) for a in avals] != wanted:
        raise ShapeError(
            f"cond: operands {', '.join(map(str, avals))} do not fit its programs, which take "
            f"{', '.join(map(str, branches[0].in_avals))}"
        )
    return branches[0].out_avals


def _eager(xp: Any, index: Any, *args: Any, branches: Branches) -> list[Any]:
    if index.shape != ():
        raise ValueError("index")
    return run_program(branches[int(index)], xp, args)


def _jvp(
    primals: Values, tangents: Sequence[Value | None], *, branches: Branches
) -> tuple[list[Value], list[Value | None]]:
    nonzero = tangent_flags(primals, tangents)[1:]
    union = _union([jvp_jaxpr(b, nonzero)[1] for b in branches])
    moved = tuple(jvp_jaxpr(b, nonzero, union)[0] for b in branches)
    results = bind(cond_p, *primals, *given(tangents[1:], nonzero), branches=moved)
    n = len(branches[0].outvars)
    return results[:n], spread(results[n:], union)


def _union(flags: Sequence[Sequence[bool]]) -> Flags:
    return tuple(any(row) for row in zip(*flags, strict=True))


# ------------------------------------------------------------------------------------ reverse mode


class _Cut:
    """How reverse mode of a cond runs.

    Residuals of the branches share slots: a slot holds values of one type, and a branch leaves
    those that it does not use zero. Residuals that are operands are kept as they are.

    Attributes:
        linear: Each branch, cut in two.
        slots: Type of each slot.
        places: For each branch and residual, ('operand', i) or ('slot', i).
        operands: The operands that any branch keeps.
        forward: The branches, with the slots as further outputs.
    """

    __slots__ = ("forward", "linear", "operands", "places", "slots")

    def __init__(self, branches: Branches, needed: Flags) -> None:
        self.linear = [linearize_jaxpr(b, needed) for b in branches]
        self.slots: list[ShapedArray] = []
        self.places = [self._place(cut) for cut in self.linear]
        self.operands = sorted({i for row in self.places for kind, i in row if kind == "operand"})
        key = ("cond forward", tuple(self.slots), needed)
        self.forward = tuple(
            program(b, (*key, tuple(row)), self._forward_of(cut, row), b.in_avals)
            for b, cut, row in zip(branches, self.linear, self.places, strict=True)
        )

    def _place(self, cut: Linearized) -> list[tuple[str, int]]:
        row: list[tuple[str, int]] = []
        free = list(range(len(self.slots)))
        for v, position in zip(
            cut.forward.outvars[-cut.num_residuals or len(cut.forward.outvars) :],
            cut.residual_inputs, strict=True,
        ):  # fmt: skip
            if position is not None:
                row.append(("operand", position))
                continue
            found = next((i for i in free if self.slots[i] == v.aval), None)
            if found is None:
                found = len(self.slots)
                self.slots.append(v.aval)
            else:
                free.remove(found)
            row.append(("slot", found))
        return row

    def _forward_of(self, cut: Linearized, row: Sequence[tuple[str, int]]) -> Any:
        n = len(cut.forward.outvars) - cut.num_residuals

        def run(*args: Value) -> list[Value]:
            results = run_inner(cut.forward, *args)
            own = {i: r for (kind, i), r in zip(row, results[n:], strict=True) if kind == "slot"}
            kept = [own[i] if i in own else basis.zeros(a) for i, a in enumerate(self.slots)]
            return [*results[:n], *kept]

        return run


def _cut(branches: Branches, needed: Flags) -> _Cut:
    made: _Cut = derived(
        branches[0], ("cond cut", branches[1:], needed), lambda: _Cut(branches, needed)
    )
    return made


def _forward(
    needed: Flags, primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    branches = params["branches"]
    cut = _cut(branches, needed[1:])
    results = bind(cond_p, *primals, branches=cut.forward)
    n = len(branches[0].outvars)
    kept = [primals[1 + i] for i in cut.operands]
    return results[:n], (primals[0], *kept, *results[n:], cut)


def _backward(
    needed: Flags, residuals: Sequence[Any], cts: Sequence[Value | None], params: dict[str, Any]
) -> list[Value | None]:
    branches = params["branches"]
    index, *kept, cut = residuals
    present = tuple(ct is not None for ct in cts)
    outs = branches[0].out_avals
    n_operands = len(cut.operands)

    def back_of(linear: Linearized, row: Sequence[tuple[str, int]]) -> Any:
        def run(*args: Value) -> list[Value]:
            pools = {
                "operand": dict(zip(cut.operands, args, strict=False)),
                "slot": args[n_operands : len(kept)],
            }
            full = spread(args[len(kept) :], present)
            active = [
                basis.zeros(a.tangent()) if ct is None else ct
                for ct, a, on in zip(full, outs, linear.active, strict=True)
                if on
            ]
            values = [pools[kind][i] for kind, i in row]  # type: ignore[index]
            return run_inner(linear.backward, *values, *active)

        return run

    values = [*kept, *given(cts, present)]
    key = ("cond back", tuple(cut.slots), tuple(cut.operands), present)
    programs = tuple(
        program(linear.backward, (*key, tuple(row)), back_of(linear, row), [v.aval for v in values])
        for linear, row in zip(cut.linear, cut.places, strict=True)
    )
    back = bind(cond_p, index, *values, branches=programs)
    return [None, *spread(back, needed[1:])]


# --------------------------------------------------------------------------- batching, transposing


def _batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *, branches: Branches
) -> tuple[list[Value], list[int | None]]:
    index, *operands = args
    mapped = [d is not None for d in dims[1:]]
    values = [
        basis.moveaxis(x, d, 0) if d is not None else x
        for x, d in zip(operands, dims[1:], strict=True)
    ]
    if dims[0] is None:
        union = _union([batch_jaxpr(b, axis, mapped)[1] for b in branches])
        moved = tuple(batch_jaxpr(b, axis, mapped, union)[0] for b in branches)
        outs = bind(cond_p, index, *values, branches=moved)
        return outs, [0 if m else None for m in union]
    outs = _each_lane(index, values, mapped, [
        batch_jaxpr(b, axis, mapped, True)[0] for b in branches
    ])  # fmt: skip
    return outs, [0] * len(outs)


def _each_lane(
    index: Value, values: Values, mapped: Sequence[bool], branches: Sequence[Jaxpr]
) -> list[Value]:
    """Every branch that some lane takes, on the operands of lanes that take it; then a choice."""
    outs: list[Value] = []
    for k, branch in enumerate(branches):
        takes = eq(index, k)
        if is_constant(branch):
            results = run_inner(branch, *values)
        else:
            own = [active_only(takes, x) if m else x for x, m in zip(values, mapped, strict=True)]
            some = basis.convert_element_type(any_lane(takes), np.int32)
            results = bind(cond_p, some, *own, branches=(_zeros_like(branch), branch))
        outs = results if k == 0 else [
            choose(takes, new, old) for new, old in zip(results, outs, strict=True)
        ]  # fmt: skip
    return outs


def _zeros_like(branch: Jaxpr) -> Jaxpr:
    """A program of the same type that returns zeros."""
    return program(
        branch, ("zeros",), lambda *_args: [basis.zeros(a) for a in branch.out_avals],
        branch.in_avals,
    )  # fmt: skip


def _transpose(
    cts: Sequence[Value | None], index: Value, *args: Any, branches: Branches
) -> list[Value | None]:
    linear = [isinstance(a, Unknown) for a in args]
    wanted = [i for i, ct in enumerate(cts) if ct is not None]
    known = [a for a in args if not isinstance(a, Unknown)]
    pulled = tuple(
        transpose_jaxpr(rearranged(b, range(len(args)), wanted), linear) for b in branches
    )
    into = bind(cond_p, index, *known, *(cts[i] for i in wanted), branches=pulled)
    return [None, *spread(into, linear)]


def _reach(flags: Sequence[bool], *, branches: Branches) -> Sequence[bool]:
    if flags[0]:
        return [True] * len(branches[0].outvars)
    return _union([reachable(b, flags[1:]) for b in branches])


cond_p = Primitive(
    "cond",
    "One of several programs of the same type, chosen by an index.",
    abstract=_abstract,
    eager=_eager,
    jvp=_jvp,
    transpose=_transpose,
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    reach=_reach,
    lower=Lowering("branch", "branches"),
    linear="jointly",
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
