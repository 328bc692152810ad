"""The second function of a kernel with `Accumulate`: it adds up the results of all units."""

from fgrad.backends.cpu import ops
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.loops import along, segments
from fgrad.backends.cpu.maps import Access, Step
from fgrad.backends.cpu.memory import Address, load
from fgrad.backends.cpu.reduction import Partial, settled, two_sum


def combine(f: Frame, i: int, index: str) -> None:
    """Emit the sum over the units of one kept index, and the store of the result.

    Args:
        f: The function.
        i: The position of the `Accumulate`.
        index: The kept index, an i64.
    """
    total, access = _Total(f, i, index), Access(f, i)
    access.start_row()
    if total.partial.is_row:
        access.finish_segment()
        with f.b.lanes(1):
            access.store_scalar(total.at(Step("0", None)))
        return

    with segments(f) as start:
        access.start_segment()
        access.finish_segment()

        def body(step: Step, _: int) -> None:
            at = f.b.binary("add", step.at, start) if start else step.at
            access.store(total.at(Step(at, step.mask)), step)

        last = len(f.kernel.outer) + len(f.kernel.inner) - 1
        along(f.b, 0, f.word("size", last), body)


class _Total:
    """The sum of the partial results of one kept index."""

    def __init__(self, f: Frame, i: int, index: str) -> None:
        self.f, self.i, self.partial = f, i, Partial(f, i)
        self.first = f.b.binary("mul", index, f.word("blocks"))

    def at(self, step: Step) -> str:
        """The sum of what the units have at some elements."""
        f, b, p = self.f, self.f.b, self.partial
        scalar = ops.scalar_of(p.dtype)
        total = b.variable(p.neutral, scalar, b.width)
        carry = b.variable(0, scalar, b.width)
        with b.loop(0, f.word("blocks"), 1, [total, carry] if p.compensated else [total]) as block:
            unit = b.binary("add", block, self.first)
            start = b.binary("mul", unit, f.word("unit_bytes"))
            start = b.binary("add", start, f.word("partial", self.i))
            place = b.offset(f.memory("partials"), start, "i8")
            value = load(b, p.dtype, Address(b.offset(place, step.at, p.scalar)), step.mask)
            if p.compensated:
                total.value, error = two_sum(b, total.value, value)
                carry.value = b.binary("fadd", carry.value, error)
            else:
                kinds = (p.dtype, p.dtype)
                total.value = ops.emit(b, p.monoid, (total.value, value), kinds, p.dtype)
        if p.compensated:
            return settled(b, total.value, carry.value)
        return ops.convert(b, total.value, p.dtype, p.result)
