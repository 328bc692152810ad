"""What programs of other sizes have in common, and where they differ: in integers and literals."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgrad.compile.sizes import Number, Size
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.where import Where

# Parameters whose integers number axes, operands or bits: programs that differ in them are others.
_NUMBERING = frozenset((
    "axis", "axes", "dimension", "dimensions", "broadcast_dimensions", "permutation",
    "dimension_numbers", "num_consts", "num_carry", "num_cond", "num_body", "num_keys", "index",
    "y", "unroll", "word", "bit_width", "exponent_bits", "mantissa_bits",
))  # fmt: skip

_MOST = 2**63  # integers are compared as int64


class Shapeless(Exception):
    """A program of which that is not told apart.

    It holds arrays, functions of the user's, or integers that no length can be.
    """


class Form:
    """A program, split into what must agree and what may differ.

    Attributes:
        skeleton: What must agree.
        integers: Lengths of axes, and those of parameters.
        numbers: The values of literals.
    """

    __slots__ = ("_passes", "_vars", "integers", "numbers", "skeleton")

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.skeleton: list[Any] = []
        self.integers: list[int] = []
        self.numbers: list[Any] = []
        self._vars: dict[Var, int] = {}
        self._passes: dict[Any, int] = {}
        self._program(jaxpr)
        self._vars, self._passes = {}, {}  # the program may go

    def _program(self, jaxpr: Jaxpr) -> None:
        if jaxpr.constvars:
            raise Shapeless
        put = self.skeleton.append
        put(len(jaxpr.invars))
        for v in jaxpr.invars:
            self._made(v)
        put(len(jaxpr.eqns))
        for eqn in jaxpr.eqns:
            put(eqn.primitive)
            for a in eqn.inputs:
                self._read(a)
            for name, value in eqn.params.items():
                put(name)
                if name in _NUMBERING:
                    put((type(value), value))
                else:
                    self._value(value)
            for v in eqn.outputs:
                self._made(v)
            put(_place(eqn.source))
            if eqn.phase is not None:
                put(self._pass(eqn.phase))
            if eqn.pullback is not None:
                put((self._pass(eqn.pullback[0]), eqn.pullback[1]))
        for a in jaxpr.outvars:
            self._read(a)

    def _pass(self, phase: Any) -> Any:
        """What a phase or pass is called: they are told apart, and may be made of others."""
        if phase is None:
            return None
        if type(phase) is tuple:
            return tuple([self._pass(p) for p in phase])
        return self._passes.setdefault(phase, len(self._passes))

    def _made(self, v: Var) -> None:
        self._vars[v] = len(self._vars)
        self._aval(v.aval)

    def _aval(self, aval: ShapedArray) -> None:
        shape = aval.shape
        self.skeleton += (len(shape), aval.dtype, aval.weak_type)
        self.integers += shape

    def _read(self, a: Atom) -> None:
        if type(a) is Var:
            self.skeleton.append(self._vars[a])
            return
        if a.aval.shape:
            raise Shapeless
        self.skeleton.append(-1)
        self._aval(a.aval)
        self.numbers.append(a.value)  # type: ignore[union-attr]

    def _value(self, value: Any) -> None:
        kind = type(value)
        if kind is int:
            if not -_MOST <= value < _MOST:
                raise Shapeless
            self.integers.append(value)
            self.skeleton.append(int)
        elif kind is tuple:
            self.skeleton.append(len(value))
            for item in value:
                self._value(item)
        elif kind is Jaxpr:
            self._program(value)
        elif isinstance(value, float | complex | np.generic):
            self.skeleton.append((kind, repr(value)))  # zeros have a sign
        elif isinstance(value, np.ndarray) or (callable(value) and kind is not type):
            raise Shapeless
        else:
            self.skeleton.append((kind, value))


def _place(source: Where | None) -> Any:
    """The user's line, as what compares quickly; programs of other lines are others."""
    if source is None:
        return None
    kind = type(source)
    return (kind, source.code, source.offset) if kind is Where else (kind, str(source))


class Rewriter:
    """Writes a program with other integers and literals."""

    def __init__(self, integers: Sequence[int | Size], numbers: Sequence[Any]) -> None:
        self._integers: Iterator[Any] = iter(integers)
        self._numbers: Iterator[Any] = iter(numbers)
        self._new: dict[Var, Var] = {}

    def program(self, jaxpr: Jaxpr) -> Jaxpr:
        """The program, written in the order in which a `Form` takes it apart."""
        invars = [self._made(v) for v in jaxpr.invars]
        eqns = []
        for e in jaxpr.eqns:
            inputs = tuple([self._read(a) for a in e.inputs])
            params = {
                k: v if k in _NUMBERING else self._value(v) for k, v in e.params.items()
            }  # fmt: skip
            outputs = tuple([self._made(v) for v in e.outputs])
            eqns.append(Eqn(e.primitive, inputs, outputs, params, e.source, e.phase, e.pullback))
        return Jaxpr(invars, (), eqns, [self._read(a) for a in jaxpr.outvars])

    def _made(self, v: Var) -> Var:
        made = self._new[v] = Var(self._aval(v.aval))
        return made

    def _aval(self, aval: ShapedArray) -> ShapedArray:
        shape = tuple([next(self._integers) for _ in aval.shape])
        return ShapedArray(shape, aval.dtype, aval.weak_type)

    def _read(self, a: Atom) -> Atom:
        if type(a) is Var:
            return self._new[a]
        aval, value = self._aval(a.aval), next(self._numbers)
        return Literal(value, aval) if type(value) is Number else a

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is int:
            return next(self._integers)
        if kind is tuple:
            return tuple([self._value(item) for item in value])
        return self.program(value) if kind is Jaxpr else value
