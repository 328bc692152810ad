"""Complex values as pairs of real ones: equations of their real and imaginary parts.

In memory the parts lie beside each other. A value that steps of the library or the caller need is
stored so, by whatever kernels make its parts; what is read from memory is two views, of every
second float.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.compile.lower.complex_scalars import names_in, parts_of
from fgrad.compile.lower.indexed import is_gather, look_up
from fgrad.compile.lower.items import JOIN, POINTWISE, SCAN, VIEW, Equations, Item
from fgrad.compile.lower.scalars import Supports, computed, expression, is_supported, part_dtype
from fgrad.compile.lower.views import Affine, is_regular, total
from fgrad.compile.plan import contiguous
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Eqn, Literal, Var
from fgrad.core.primitive import Absent, Lowering, primitive

Pair = tuple[Atom, Atom]


def is_complex(atom: Atom) -> bool:
    """Whether an atom is of a complex dtype."""
    return atom.aval.dtype.kind == "c"


def position_of(atom: Atom, index: Sequence[Affine], axes: int) -> Affine:
    """Where an element lies in the memory of a value; the real part, of a complex one."""
    at = total(index, contiguous(atom.aval.shape), axes)
    return at.times(2) if is_complex(atom) else at


def halves(program: Equations, atom: Atom, origin: int) -> Pair:
    """The real and the imaginary part of a complex value.

    Args:
        program: Where views of the parts are put, if it has none.
        atom: The value.
        origin: The equation that asks.
    """
    if isinstance(atom, Literal):
        value = np.asarray(atom.value)
        return tuple(  # type: ignore[return-value]
            Literal(np.asarray(part), _part(atom)) for part in (value.real, value.imag)
        )
    found = program.halves.get(atom)
    if found is None:
        parts = Var(_part(atom)), Var(_part(atom))
        for name, part in zip(("real", "imag"), parts, strict=True):
            program.put(Item(Eqn(primitive(name), (atom,), (part,), {}), origin, VIEW))
        found = program.halves[atom] = parts
    return found


def _part(atom: Atom) -> ShapedArray:
    aval = atom.aval
    return ShapedArray(aval.shape, part_dtype(aval.dtype), aval.weak_type)


def split(
    program: Equations, eqn: Eqn, origin: int, supports: Supports, add: Callable[[Eqn], None]
) -> bool:
    """Put equations of the parts in the place of an equation of complex values.

    Args:
        program: Where they are put.
        eqn: The equation.
        origin: Its position in the program that was given.
        supports: What the backend renders.
        add: Takes in an equation of real values.

    Returns:
        Whether that can be.
    """
    lower = eqn.primitive.lower
    atoms = (*eqn.inputs, *eqn.outputs)
    if (
        not isinstance(lower, Lowering)
        or eqn.effects
        or any(isinstance(a, Literal) and a.aval.shape for a in eqn.inputs)
        or any(computed(part_dtype(a.aval.dtype)) is None for a in atoms)
    ):
        return False
    splitter = _Splitter(program, eqn, origin, supports, add)
    match lower.kind:
        case "complex":
            return splitter.part_of(lower.data)
        case "view":
            return splitter.view(lower.data)
        case "reduce":
            return lower.data == "+" and splitter.each_half()
        case "scan":
            return splitter.each_half() if lower.data == "add" else splitter.products()
        case "pointwise":
            return splitter.pointwise()
    return False


class _Splitter:
    """Splits one equation."""

    def __init__(
        self, program: Equations, eqn: Eqn, origin: int, supports: Supports,
        add: Callable[[Eqn], None],
    ) -> None:  # fmt: skip
        self.program, self.eqn, self.origin = program, eqn, origin
        self.supports, self.add = supports, add

    def part_of(self, name: str) -> bool:
        """real, imag, conj, complex."""
        program, (out,) = self.program, self.eqn.outputs
        if name == "complex":
            x, y = self.eqn.inputs
            values = {"x": x, "y": y}
            program.pair(self.eqn, self.origin, (self.made("x", values), self.made("y", values)))
            return True
        re, im = halves(program, self.eqn.inputs[0], self.origin)
        if name == "conj":
            program.pair(self.eqn, self.origin, (re, self.made(("neg", "x"), {"x": im})))
            return True
        program.renamed[out] = re if name == "real" else im
        return True

    def view(self, name: str) -> bool:
        """Views, each half alike; a concatenation's parts are stored straight into it."""
        if name == "concatenate":
            self.program.put(Item(self.eqn, self.origin, JOIN))
            return True
        if name == "gather":
            look_up(self.program, self.eqn, self.origin)
        return name != "iota" and self.each_half()

    def each_half(self) -> bool:
        """The same equation of the real and of the imaginary parts."""
        program, eqn = self.program, self.eqn
        found: list[list[Atom]] = []
        for k in (0, 1):
            inputs = tuple(
                halves(program, a, self.origin)[k] if is_complex(a) else a for a in eqn.inputs
            )
            outputs = tuple(Var(_part(v)) for v in eqn.outputs)
            self.add(eqn.replace(inputs=inputs, outputs=outputs))
            found.append([program.read(v) for v in outputs])
        view = eqn.primitive.lower.kind == "view" and is_regular(eqn)  # type: ignore[union-attr]
        view = view and not is_gather(eqn)  # its halves are computed
        program.pair(eqn, self.origin, *zip(*found, strict=True), view=view)
        return True

    def products(self) -> bool:
        """A scan by products: each part of the result is one of both parts of the operand."""
        eqn, program = self.eqn, self.program
        pair = halves(program, eqn.inputs[0], self.origin)
        if eqn.outputs[0].aval.shape[eqn.params["axis"]] != 1:
            outs = Var(_part(eqn.outputs[0])), Var(_part(eqn.outputs[0]))
            for out, monoid in zip(outs, ("mul_re", "mul_im"), strict=True):
                one = eqn.replace(inputs=pair, outputs=(out,))
                program.put(Item(one, self.origin, SCAN, monoid))
            pair = outs
        program.pair(eqn, self.origin, pair)
        return True

    def pointwise(self) -> bool:
        """A scalar expression, as expressions over the parts."""
        eqn = self.eqn
        scalar = expression(eqn)
        if isinstance(scalar, Absent):
            return False
        expr, names = scalar
        operands = dict(zip(names, eqn.inputs, strict=True))
        mixed = [n for n, a in operands.items() if is_complex(a)]
        (out,) = eqn.outputs
        parts = parts_of(expr, mixed, out.aval.dtype.kind)
        if parts is None:
            return False
        values: dict[str, Atom] = {}
        for name, a in operands.items():
            if is_complex(a):
                values[f"{name}_re"], values[f"{name}_im"] = halves(self.program, a, self.origin)
            else:
                values[name] = a
        known: Any = {n: computed(a.aval.dtype) for n, a in values.items()}
        dtype = computed(part_dtype(out.aval.dtype))
        assert dtype is not None
        if not all(is_supported(p, known, dtype, self.supports) for p in parts):
            return False
        if not is_complex(out):
            self.put(parts[0], values, out)
            return True
        re, im = (self.made(p, values) for p in parts)
        self.program.pair(eqn, self.origin, (re, im))
        return True

    def made(self, expr: Any, values: dict[str, Atom]) -> Atom:
        """A part of the result: an operand as it is, or a value of its own."""
        aval = _part(self.eqn.outputs[0])
        if isinstance(expr, str):
            same = values[expr].aval
            if same.shape == aval.shape and same.dtype == aval.dtype:
                return values[expr]
        out = Var(aval)
        self.put(expr, values, out)
        return out

    def put(self, expr: Any, values: dict[str, Atom], out: Var) -> None:
        names = names_in(expr) or list(values)[:1]
        inputs = tuple(values[n] for n in names)
        eqn = self.eqn.replace(inputs=inputs, outputs=(out,))
        self.program.put(Item(eqn, self.origin, POINTWISE, expr, names))
