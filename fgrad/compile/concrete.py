"""A plan with sizes as the plan at given values of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fgrad.compile.kernel import MAPPED, Bound, Const, Instr, Kernel, Load, Map
from fgrad.compile.plan import Batch, Buffer, Launch, Loop, Plan, Step, View
from fgrad.compile.sizes import Conditions, Filled, Number, Size, Values
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var


class Learnt:
    """What is known of a kernel with sizes.

    Attributes:
        conditions: Those under which its memo holds.
        sized: The instructions in which there are sizes; None: nobody has looked.
    """

    __slots__ = ("conditions", "sized")

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.sized: list[int] | None = None


class Concrete:
    """Puts values in the place of sizes.

    Args:
        values: Those of the sizes.
        learnt: What is known of each kernel, by the id of its memo.
    """

    def __init__(self, values: Values, learnt: Mapping[int, Learnt]) -> None:
        self._values, self._of, self._learnt = values, values.of, learnt
        self._vars: dict[Var, Var] = {}
        self._eqns: dict[Eqn, Eqn] = {}
        self._kernels: dict[int, tuple[Any, Kernel]] = {}

    def plan(self, plan: Plan) -> Plan:
        """A plan."""
        return Plan(
            plan.inputs,
            tuple([Buffer(self._tuple(b.shape), b.dtype, b.role) for b in plan.buffers]),
            tuple([self._step(s) for s in plan.steps]),
            tuple([r if type(r) is int else self._atom(r) for r in plan.results]),  # type: ignore[arg-type,misc]
            plan.updated,
            tuple([None if v is None else self._var(v) for v in plan.values]),
        )

    # ------------------------------------------------------------------------ programs

    def _one(self, x: Any) -> Any:
        return self._of[x.at] if type(x) is Size else x

    def _tuple(self, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        for x in xs:
            if type(x) is Size:
                of = self._of
                return tuple([of[x.at] if type(x) is Size else x for x in xs])
        return xs

    def _aval(self, aval: ShapedArray) -> ShapedArray:
        shape = self._tuple(aval.shape)
        return aval if shape is aval.shape else ShapedArray(shape, aval.dtype, aval.weak_type)

    def _var(self, v: Var) -> Var:
        found = self._vars.get(v)
        if found is None:
            aval = self._aval(v.aval)
            found = self._vars[v] = v if aval is v.aval else Var(aval)
        return found

    def _atom(self, a: Atom) -> Atom:
        if type(a) is Var:
            return self._var(a)
        value, aval = a.value, self._aval(a.aval)  # type: ignore[union-attr]
        if type(value) is Filled:
            value = value.value
            value = np.asarray(self._of[value.at] if type(value) is Number else value, aval.dtype)
            return Literal(np.broadcast_to(value, aval.shape), aval)
        if type(value) is Number:
            return Literal(self._of[value.at], aval)
        return a if aval is a.aval else Literal(value, aval)

    def _param(self, value: Any) -> Any:
        kind = type(value)
        if kind is Size:
            return self._of[value.at]
        if kind is tuple:
            return tuple([self._param(v) for v in value])
        if kind is Jaxpr:
            return self.program(value)
        return self._aval(value) if kind is ShapedArray else value

    def program(self, jaxpr: Jaxpr) -> Jaxpr:
        """A program."""
        return Jaxpr(
            [self._var(v) for v in jaxpr.invars], (), [self._eqn(e) for e in jaxpr.eqns],
            [self._atom(a) for a in jaxpr.outvars],
        )  # fmt: skip

    def _eqn(self, eqn: Eqn) -> Eqn:
        found = self._eqns.get(eqn)  # a step and the program have one and the same
        if found is None:
            found = self._eqns[eqn] = self._new(eqn)
        return found

    def _new(self, eqn: Eqn) -> Eqn:
        return Eqn(
            eqn.primitive,
            tuple([self._atom(a) for a in eqn.inputs]),
            tuple([self._var(v) for v in eqn.outputs]),
            {k: self._param(v) for k, v in eqn.params.items()},
            eqn.source, eqn.phase, eqn.pullback,
        )  # fmt: skip

    # ------------------------------------------------------------------------ steps

    def _step(self, step: Step) -> Step:
        if isinstance(step, Launch):
            return type(step)(self._kernel(step.kernel), step.buffers)
        if isinstance(step, Batch):
            return Batch(tuple([self._step(s) for s in step.launches]))  # type: ignore[misc]
        inputs = tuple([self._view(v) if type(v) is View else self._atom(v) for v in step.inputs])  # type: ignore[arg-type]
        if isinstance(step, Loop):
            return Loop(
                self._eqn(step.eqn), step.index, inputs, step.outputs,  # type: ignore[arg-type]
                tuple(map(self.program, step.jaxprs)), tuple(map(self.plan, step.plans)),
            )  # fmt: skip
        return type(step)(self._eqn(step.eqn), step.index, inputs, step.outputs)  # type: ignore[arg-type]

    def _view(self, v: View) -> View:
        return View(
            v.buffer, self._one(v.offset), self._tuple(v.shape), self._tuple(v.strides)
        )  # fmt: skip

    def _kernel(self, kernel: Kernel) -> Kernel:
        # Kernels that share what is known of them are one, under several names.
        found = self._kernels.get(id(kernel.memo))
        if found is None:
            outer, inner = self._tuple(kernel.outer), self._tuple(kernel.inner)
            body = list(kernel.body)
            known = self._learnt[id(kernel.memo)]
            if known.sized is None:
                new = [self._instr(i) for i in body]
                known.sized = [
                    k for k, (a, b) in enumerate(zip(new, body, strict=True)) if a is not b
                ]
            for k in known.sized:
                body[k] = self._instr(body[k])
            if not known.sized and outer is kernel.outer and inner is kernel.inner:
                made = kernel
            else:
                made = Kernel(kernel.name, outer, inner, kernel.operands, tuple(body), kernel.kept)
                if self._values.hold(known.conditions):
                    made.memo.update(kernel.memo)
            found = self._kernels[id(kernel.memo)] = kernel.memo, made
        return found[1].of(kernel.name, kernel.eqns)

    def _instr(self, i: Instr) -> Instr:
        if isinstance(i, Const):
            return Const(self._of[i.value.at], i.dtype) if type(i.value) is Size else i
        if not isinstance(i, MAPPED):
            return i
        m = self._map(i.map)
        if not isinstance(i, Load):
            return i if m is i.map else replace(i, map=m)
        bounds = tuple([self._bound(b) for b in i.bounds])
        if m is i.map and all(map(_is, bounds, i.bounds)):
            return i
        return Load(i.operand, m, i.dtype, bounds, i.fill)

    def _map(self, m: Map) -> Map:
        offset, strides = self._one(m.offset), self._tuple(m.strides)
        indirect = self._indirect(m.indirect)
        if offset is m.offset and strides is m.strides and indirect is m.indirect:
            return m
        return Map(offset, strides, indirect)

    def _bound(self, b: Bound) -> Bound:
        size, offset, strides = self._one(b.size), self._one(b.offset), self._tuple(b.strides)
        indirect = self._indirect(b.indirect)
        if (
            size is b.size and offset is b.offset and strides is b.strides
            and indirect is b.indirect
        ):  # fmt: skip
            return b
        return Bound(size, offset, strides, indirect)

    def _indirect(self, pairs: tuple[tuple[int, Any], ...]) -> tuple[tuple[int, int], ...]:
        if any(type(s) is Size for _, s in pairs):
            return tuple([(v, self._one(s)) for v, s in pairs])
        return pairs


def _is(a: Any, b: Any) -> bool:
    return a is b
