"""Compute before values are repeated, after they are cut, and products as they are turned."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.primitive import Lowering
from fgrad.core.transforms.jaxprs import dce


def sink(jaxpr: Jaxpr) -> Jaxpr:
    """The program in which broadcasts come late and slices early, so that less is computed.

    A pointwise equation, a conversion for example, whose operands are all broadcast alike is
    applied to what they repeat, and its result is broadcast. A slice of a pointwise result that
    nobody else reads becomes the pointwise result of the slice. A product that is only read
    transposed becomes the product of its operands in the other order, such as the gradient of the
    ``w`` in ``x @ w.T``. Each element is computed as before: no bit changes, but that libraries
    may add up a product in another order. Nothing moves from one phase to another.
    """
    sunk = _Sink(jaxpr)
    for eqn in jaxpr.eqns:
        sunk.add(eqn.reading(tuple(map(sunk.read, eqn.inputs))))
    if not sunk.renamed:
        return jaxpr
    outs = [sunk.read(a) for a in jaxpr.outvars]
    return dce(Jaxpr(jaxpr.invars, jaxpr.constvars, sunk.eqns, outs))


class _Sink:
    """The program while it is written again."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.eqns: list[Eqn] = []
        self.made: dict[Var, Eqn] = {}
        self.renamed: dict[Var, Atom] = {}
        self.readers = Counter(a for e in jaxpr.eqns for a in e.inputs if type(a) is Var)
        self.readers.update(a for a in jaxpr.outvars if type(a) is Var)

    def read(self, atom: Atom) -> Atom:
        return self.renamed.get(atom, atom) if type(atom) is Var else atom

    def add(self, eqn: Eqn) -> None:
        kind = _kind(eqn)
        if kind == "pointwise" and self._before_broadcast(eqn):
            return
        if kind == "slice" and self._before_pointwise(eqn):
            return
        if kind == "transpose" and self._into_product(eqn):
            return
        self._write(eqn)

    def _write(self, eqn: Eqn) -> None:
        self.eqns.append(eqn)
        self.made.update(dict.fromkeys(eqn.outputs, eqn))

    def _new(self, eqn: Eqn, like: Eqn, inputs: Sequence[Atom]) -> Var:
        """The result of `like` on other inputs, asked for where `eqn` was."""
        avals = [a.aval for a in inputs]
        out = Var(like.primitive.abstract(*avals, **like.params))
        self._write(
            eqn.replace(
                primitive=like.primitive, params=like.params, inputs=tuple(inputs), outputs=(out,)
            )
        )
        return out

    def _maker(self, atom: Atom, eqn: Eqn, kind: str) -> Eqn | None:
        """The equation that made an operand, if it is of that kind and of the same phase."""
        made = self.made.get(atom) if type(atom) is Var else None
        return made if made and made.phase == eqn.phase and _kind(made) == kind else None

    def _before_broadcast(self, eqn: Eqn) -> bool:
        out = eqn.outputs[0].aval
        first: Eqn | None = None
        operands: list[Atom] = []
        for a in eqn.inputs:
            if not a.aval.shape:
                operands.append(a)
                continue
            made = self._maker(a, eqn, "broadcast")
            if made is None or a.aval.shape != out.shape or not _alike(first, made):
                return False
            first = made
            operands.append(made.inputs[0])
        if first is None or first.inputs[0].aval.size >= out.size:
            return False
        if not first.inputs[0].aval.shape and not all(isinstance(a, Literal) for a in operands):
            return False  # one more kernel for a scalar, which the kernel that reads it computes
        small = self._new(eqn, eqn, operands)
        self._rename(eqn, self._new(eqn, first, (small,)))
        return True

    def _before_pointwise(self, eqn: Eqn) -> bool:
        made = self._maker(eqn.inputs[0], eqn, "pointwise")
        if made is None or made.pullback != eqn.pullback or self.readers[made.outputs[0]] > 1:
            return False
        whole = [a for a in made.inputs if a.aval.shape]
        if len(whole) != 1 or whole[0].aval.shape != eqn.inputs[0].aval.shape:
            return False
        part = self._new(made, eqn, whole)
        inputs = [part if a is whole[0] else a for a in made.inputs]
        self._rename(eqn, self._new(made, made, inputs))
        return True

    def _into_product(self, eqn: Eqn) -> bool:
        made = self._maker(eqn.inputs[0], eqn, "gemm")
        if made is None or made.pullback != eqn.pullback or self.readers[made.outputs[0]] != 1:
            return False
        other = _exchanged(made)
        if other is None or eqn.params["permutation"] != other[0]:
            return False
        self._rename(eqn, self._new(made, made.replace(params=other[1]), made.inputs[::-1]))
        return True

    def _rename(self, eqn: Eqn, new: Var) -> None:
        assert _type(new.aval) == _type(eqn.outputs[0].aval), "a type has changed"
        self.renamed[eqn.outputs[0]] = new


def _kind(eqn: Eqn) -> str | None:
    lower = eqn.primitive.lower
    if not isinstance(lower, Lowering) or eqn.effects or len(eqn.outputs) != 1:
        return None
    if lower.kind == "library":
        return "gemm" if lower.data == "gemm" else None
    return lower.kind if lower.kind == "pointwise" else lower.data if lower.kind == "view" else None


def _exchanged(product: Eqn) -> tuple[tuple[int, ...], dict[str, Any]] | None:
    """How a product is permuted by an exchange of its operands, and the parameters of that."""
    (lc, rc), (lb, rb) = product.params["dimension_numbers"]
    stack, (left, right) = len(lb), (a.aval.ndim - len(lb) - len(lc) for a in product.inputs)
    if not left or not right:
        return None
    axes = tuple(range(stack + left + right))
    precision = product.params["precision"]
    params = {
        **product.params,
        "dimension_numbers": ((rc, lc), (rb, lb)),
        "precision": precision[::-1] if type(precision) is tuple else precision,
    }
    return (*axes[:stack], *axes[stack + left :], *axes[stack : stack + left]), params


def _alike(first: Eqn | None, other: Eqn) -> bool:
    """Whether two broadcasts repeat operands of one shape in the same way."""
    if first is None:
        return True
    same = first.inputs[0].aval.shape == other.inputs[0].aval.shape
    return same and first.params == other.params


def _type(aval: ShapedArray) -> tuple[object, ...]:
    return aval.shape, aval.dtype, aval.weak_type
