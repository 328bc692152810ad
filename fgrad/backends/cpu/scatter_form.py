"""What a scatter moves, as loops: over windows, and over the elements of a window.

All strides count the numbers of which elements consist: two for a complex one, unless it is moved
as a whole.
"""

from collections.abc import Sequence
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu.memory import stored_scalar
from fgrad.compile.kernel import COMPUTED
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core.ir import Literal
from fgrad.lax.index import GatherScatterMode, Ints
from fgrad.lax.scattering import scatter_plan, window_of

OPERATIONS = {
    "scatter": "set", "scatter_add": "add", "scatter_mul": "mul", "scatter_min": "min",
    "scatter_max": "max",
}  # fmt: skip
CLIP, DROP, CHECK = "clip", "drop", "check"
_MODES = {GatherScatterMode.CLIP: CLIP, GatherScatterMode.FILL_OR_DROP: DROP}
_MOST = 2**31  # elements of an array whose positions fit into half a word


class Number(NamedTuple):
    """How a number lies in memory, and what it is computed in.

    Attributes:
        name: Its dtype.
        scalar: The LLVM type in memory.
        align: The alignment of an element, in bytes.
        computed: The dtype computed in.
    """

    name: str
    scalar: str
    align: int
    computed: str

    @property
    def size(self) -> int:
        """Its bytes."""
        known = {"half": 2, "float": 4, "double": 8}
        return known.get(self.scalar) or int(self.scalar[1:]) // 8


class Column(NamedTuple):
    """An entry of an index vector: where it lies, its greatest valid value, and what it moves."""

    at: int
    limit: int
    stride: int


class Batch(NamedTuple):
    """An axis of the batch: its length, and strides of indices, updates and result."""

    size: int
    indices: int
    updates: int
    result: int


class Axis(NamedTuple):
    """An axis of a window: its length, strides of result and updates, and if the window spans it.

    Where it does, windows that begin at different places along other axes do not overlap in it.
    """

    size: int
    result: int
    updates: int
    whole: bool


class Scatter(NamedTuple):
    """A scatter as loops.

    Attributes:
        op: 'set', 'add', 'mul', 'min' or 'max'.
        number: Of what elements consist.
        parts: How many numbers an element has.
        pairs: Whether two numbers are a complex one in each step: for products.
        mode: What becomes of windows that do not fit.
        integer: The LLVM type of an index, and whether it is signed.
        columns: The entries of an index vector.
        batch: The axes of the batch, the first apart: see `many`.
        first: The first of them, whose length is no part of the code.
        window: The axes of a window, by falling strides of the result.
    """

    op: str
    number: Number
    parts: int
    pairs: bool
    mode: str
    integer: tuple[str, bool]
    columns: tuple[Column, ...]
    first: Batch
    batch: tuple[Batch, ...]
    window: tuple[Axis, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What code depends on: all but the number of windows along the first axis."""
        return self._replace(first=self.first._replace(size=0))

    @property
    def windows(self) -> int:
        """The number of windows."""
        return self.first.size * prod(b.size for b in self.batch)

    @property
    def elements(self) -> int:
        """The numbers in a window."""
        return prod(a.size for a in self.window)

    @property
    def inner(self) -> tuple[Axis, ...]:
        """The axes of a window that do not span the result."""
        return tuple(a for a in self.window if not a.whole)

    @property
    def row(self) -> tuple[Axis, ...]:
        """The axes of a window that span the result."""
        return tuple(a for a in self.window if a.whole)

    @property
    def grain(self) -> int:
        """What divides the distance between any two rows; 0 where there is one row alone."""
        strides = [c.stride for c in self.columns if c.limit]
        strides += [b.result for b in (self.first, *self.batch)]
        return gcd(*strides, *(a.result for a in self.inner))


def form_of(step: Library) -> Scatter | None:
    """A scatter as loops; None where there is nothing to do, or for dtypes of NumPy alone."""
    eqn, params = step.eqn, step.eqn.params
    op = OPERATIONS[eqn.primitive.name]
    dtype = eqn.outputs[0].aval.dtype
    found = number_of(op, dtype)
    x, indices, updates = (a.aval for a in eqn.inputs)
    if found is None or not x.size or not updates.size or max(x.size, updates.size) >= _MOST // 2:
        return None
    number, parts, pairs = found
    numbers = params["dimension_numbers"]
    p = scatter_plan(op, x.shape, indices.shape, updates.shape, numbers)
    sizes = window_of(x.shape, updates.shape, numbers)
    dense = [n * parts for n in contiguous(x.shape)]
    *along, at = strides_of(step.inputs[1])
    moved = [n * parts for n in strides_of(step.inputs[2])]
    if sum((n - 1) * abs(s) for n, s in zip(updates.shape, moved, strict=True)) >= _MOST:
        return None
    columns = [
        Column(k * at, limit, dense[d])
        for k, (d, limit) in enumerate(
            zip(numbers.scatter_dims_to_operand_dims, p.limits, strict=True)
        )
    ]
    walked = dict(
        zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    )
    batch = [
        Batch(n, along[i], moved[axis], dense[walked[i]] if i in walked else 0)
        for i, (n, axis) in enumerate(zip(p.batch_shape, p.batch_axes, strict=True))
    ]
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = [d for d in range(len(sizes)) if d not in gone]
    axes = [
        Axis(sizes[d], dense[d], moved[place], sizes[d] == x.shape[d])
        for d, place in zip(window, numbers.update_window_dims, strict=True)
    ]
    if parts == 2 and not pairs:
        axes.append(Axis(2, 1, 1, True))
    first, *others = _joined_batch(batch) or [Batch(1, 0, 0, 0)]
    index = eqn.inputs[1].aval.dtype
    return Scatter(
        op, number, parts, pairs, _MODES.get(params["mode"], CHECK),
        (f"i{8 * index.itemsize}", index.kind == "i"), tuple(columns), first, tuple(others),
        tuple(_joined_window(axes)),
    )  # fmt: skip


def number_of(op: str, dtype: np.dtype[Any]) -> tuple[Number, int, bool] | None:
    """The numbers of an element, how many it has, and whether they are computed with as pairs."""
    size, align = dtype.itemsize, dtype.alignment
    if op == "set":
        parts = 2 if size == 16 else 1
        bits = 8 * size // parts
        return Number(f"i{bits}", f"i{bits}", align, ""), parts, False
    parts = 1
    if dtype.kind == "c":
        dtype, parts = np.dtype(f"f{size // 2}"), 2
    if dtype in COMPUTED:
        return Number(dtype.name, stored_scalar(dtype), align, dtype.name), parts, (
            parts == 2 and op == "mul"
        )  # fmt: skip
    if dtype.name in ("float16", "bfloat16"):
        return Number(dtype.name, stored_scalar(dtype), align, "float32"), 1, False
    return None


def strides_of(operand: View | Literal) -> Ints:
    """The strides of an operand, in elements."""
    if isinstance(operand, View):
        return operand.strides
    value = np.asarray(operand.value, operand.aval.dtype)
    return tuple(s // value.itemsize for s in value.strides)


def _joined_batch(axes: Sequence[Batch]) -> list[Batch]:
    """Axes of which neighbours are one where all strides allow it."""
    found: list[Batch] = []
    for b in axes:
        if b.size == 1:
            continue
        if found and all(s == t * b.size for s, t in zip(found[-1][1:], b[1:], strict=True)):
            found[-1] = Batch(found[-1].size * b.size, *b[1:])
        else:
            found.append(b)
    return found


def _joined_window(axes: Sequence[Axis]) -> list[Axis]:
    """Axes by falling strides of the result, neighbours one where that is possible."""
    found: list[Axis] = []
    for a in sorted((a for a in axes if a.size > 1), key=lambda a: -a.result):
        last = found[-1] if found else None
        if (
            last is not None
            and last.whole == a.whole
            and last.result == a.result * a.size
            and last.updates == a.updates * a.size
        ):
            found[-1] = Axis(last.size * a.size, a.result, a.updates, a.whole)
        else:
            found.append(a)
    return found
