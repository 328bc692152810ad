"""Gathers as index maps: where a window starts is computed, the rest is affine.

The dimension numbers are those of `fgrad.lax.index`; starts are moved inside (mode 'clip'). The
operand is read from memory, as it lies there.
"""

from collections.abc import Callable, Sequence

from fgrad.compile.kernel import Bound
from fgrad.compile.lower.axes import Layout
from fgrad.compile.lower.body import Body
from fgrad.compile.lower.items import JOIN, LIBRARY, POINTWISE, VIEW, Equations, Item
from fgrad.compile.lower.scalars import part_dtype
from fgrad.compile.lower.strided import Strided
from fgrad.compile.lower.views import Affine, total
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Eqn, Jaxpr, Var

ValueOf = Callable[[Atom, Sequence[Affine], tuple[Bound, ...]], int]


def is_gather(eqn: Eqn) -> bool:
    """Whether an equation is a gather."""
    return eqn.primitive.name == "gather"


def is_check(eqn: Eqn) -> bool:
    """Whether an equation raises where an index lies outside, and does nothing else."""
    return eqn.primitive.name == "check_bounds"


def joined(program: Equations, atom: Atom, axis: int) -> tuple[Atom, ...] | None:
    """The values of length 1 along an axis that a concatenation puts beside each other."""
    made = program.made.get(atom) if type(atom) is Var else None
    item = None if made is None else program.items[made[0]]
    if item is None or item.form != JOIN or item.eqn.params["dimension"] != axis:
        return None
    single = all(a.aval.shape[axis] == 1 for a in item.eqn.inputs)
    return item.eqn.inputs if single else None


def look_up(program: Equations, eqn: Eqn, origin: int) -> None:
    """Take in a gather as a value that is computed once, element by element, from a view.

    Of a complex one that value is known to be what the result is stored from: the two floats of
    each element, along one more axis. What computes with complex elements reads their parts.
    """
    steps = _steps_before(program, eqn)
    operand, indices = (steps[0][1] if steps else eqn.inputs[0]), eqn.inputs[1]
    shape = eqn.outputs[0].aval.shape
    values = [Var(ShapedArray(shape, a.aval.dtype)) for _, a in steps]
    values.append(eqn.outputs[0])
    out = values[0]
    columns = joined(program, indices, indices.aval.ndim - 1) or (indices,)
    found, part = out, part_dtype(out.aval.dtype)
    if part != out.aval.dtype:
        found = program.floats[out] = Var(ShapedArray((*out.aval.shape, 2), part))
    shown = Var(found.aval)
    view = eqn.replace(inputs=(operand, *columns), outputs=(shown,))
    copy = eqn.replace(inputs=(shown,), outputs=(found,))
    program.put(Item(view, origin, VIEW))
    program.put(Item(copy, origin, POINTWISE, "x", ("x",)))
    for (item, whole), x, y in zip(steps, values, values[1:], strict=False):
        inputs = tuple(x if a is whole else a for a in item.eqn.inputs)
        program.put(item._replace(eqn=item.eqn.replace(inputs=inputs, outputs=(y,))))


def _steps_before(program: Equations, eqn: Eqn) -> list[tuple[Item, Var]]:
    """What computes the operand of a gather from what is in memory anyway, element by element.

    Each with the operand that it takes from the one before. The gather looks up that memory, and
    the few elements it finds are computed again: the others need not be stored for it. None where
    that memory would be kept for longer, or the gather reads about all of it.
    """
    atom, out = eqn.inputs[0], eqn.outputs[0]
    steps: list[tuple[Item, Var]] = []
    if _FEW * out.aval.size > atom.aval.size:
        return steps
    while type(atom) is Var and atom in program.made and len(steps) < _TRAIL:
        item = program.items[program.made[atom][0]]
        if item.form != POINTWISE:
            break
        whole = [a for a in item.eqn.inputs if a.aval.shape]
        same = (item.eqn.phase, item.eqn.pullback) == (eqn.phase, eqn.pullback)
        if not same or len(whole) != 1 or whole[0].aval.shape != atom.aval.shape:
            break
        (atom,) = whole
        if type(atom) is not Var:
            return []
        steps.append((item, atom))
    real = all(a.aval.dtype.kind != "c" for _, a in steps)
    return steps[::-1] if real and _is_in_memory(program, atom) else []


def _is_in_memory(program: Equations, atom: Atom) -> bool:
    """Whether a value is an input or the result of a library step, or such a one reshaped."""
    while type(atom) is Var and atom in program.made:
        item = program.items[program.made[atom][0]]
        if item.form == LIBRARY:
            return True
        if item.form != VIEW or item.eqn.primitive.lower.data != "reshape":  # type: ignore[union-attr]
            return False
        atom = item.eqn.inputs[0]
    return type(atom) is Var


_FEW = 4  # times as many elements there are as a gather looks up


def columns_of(eqn: Eqn) -> tuple[Atom, ...]:
    """The indices of a gather: one array of vectors, or an array ``[batch…, 1]`` for each entry."""
    return eqn.inputs[1:]


def traced_back(program: Equations, eqn: Eqn) -> Eqn:
    """A check that computes the indices that it may have to report, rather than find them stored.

    It reads what they are made of, by few operations on integers, and is given their program.
    """
    flag, *columns = eqn.inputs
    steps: dict[int, Eqn] = {}
    bases: dict[Var, None] = {}
    waiting = list(columns)
    while waiting:
        a = waiting.pop()
        if type(a) is not Var or a in bases:
            continue
        position = program.made.get(a, (-1, 0))[0]
        if position < 0 or (position not in steps and len(steps) == _TRAIL):
            bases[a] = None
            continue
        item = program.items[position]
        if position not in steps and not _is_traced(item):
            bases[a] = None
        elif position not in steps:
            steps[position] = item.eqn
            waiting += item.eqn.inputs
    made = [steps[k] for k in sorted(steps)]
    trail = Jaxpr(tuple(bases), (), made, columns)
    return eqn.replace(inputs=(flag, *bases), params={**eqn.params, "trail": trail})


def _is_traced(item: Item) -> bool:
    """Whether an item is an equation of the program, about integers, that moves or computes."""
    kind = item.eqn.primitive.lower.kind  # type: ignore[union-attr]
    atoms = (*item.eqn.inputs, *item.eqn.outputs)
    integers = all(a.aval.dtype.kind in "iub" for a in atoms)
    movers = item.form in (VIEW, JOIN, POINTWISE) and not is_gather(item.eqn)
    return movers and kind in _TRACED and integers


_TRAIL = 32  # equations at most
_TRACED = ("pointwise", "view")


def batch_axes(eqn: Eqn) -> list[int]:
    """The axes of the result that are no window axes."""
    offsets = eqn.params["dimension_numbers"].offset_dims
    return [i for i in range(_rank(eqn)) if i not in offsets]


def _rank(eqn: Eqn) -> int:
    """The number of axes of the result, but for that of the floats of complex elements."""
    return eqn.outputs[0].aval.ndim - (eqn.inputs[0].aval.dtype.kind == "c")


def layout_of(eqn: Eqn, column: Atom, layout: Layout | None) -> Layout | None:
    """The layout of indices, from that of the result."""
    if layout is None:
        return None
    last: list[Layout] = [[]] if column.aval.shape[-1] == 1 else [None]  # type: ignore[list-item]
    return [*(layout[i] for i in batch_axes(eqn)), *last]  # type: ignore[list-item]


def gathered(
    body: Body, eqn: Eqn, index: Sequence[Affine], bounds: tuple[Bound, ...], source: Strided,
    value: ValueOf,
) -> int:  # fmt: skip
    """The computed value of an element of a gather.

    Args:
        body: Where instructions go.
        eqn: The gather.
        index: The index in its result.
        bounds: What has to hold for there to be such an element.
        source: Where its operand lies.
        value: Gives the computed value of an element of another value, within bounds.
    """
    dnums, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = eqn.inputs[0].aval.shape
    axes = len(body.sizes)
    zero = Affine(0, (0,) * axes)
    batch = [index[i] for i in batch_axes(eqn)]
    gone = {*dnums.collapsed_slice_dims, *dnums.operand_batching_dims}
    window = [d for d in range(len(shape)) if d not in gone]
    at = dict.fromkeys(range(len(shape)), zero)
    at |= {d: index[i] for d, i in zip(window, dnums.offset_dims, strict=True)}
    pairs = zip(dnums.operand_batching_dims, dnums.start_indices_batching_dims, strict=True)
    at |= {d: batch[i] for d, i in pairs}
    columns = columns_of(eqn)
    for k, d in enumerate(dnums.start_index_map):
        limit = shape[d] - (1 if d in gone else sizes[d])
        if not limit:
            continue  # there is one place
        column, entry = (columns[0], k) if len(columns) == 1 else (columns[k], 0)
        start = body.clamped(value(column, (*batch, zero.plus(entry)), bounds), limit)
        part = at[d]
        at[d] = Affine(part.offset, part.strides, (*part.indirect, (start, 1)))
    place = total([at[d] for d in range(len(shape))], source.strides, axes).plus(source.offset)
    if len(index) > _rank(eqn):
        part = index[-1]
        strides = (a + b for a, b in zip(part.strides, place.times(2).strides, strict=True))
        place = place.times(2)._replace(strides=tuple(strides)).plus(part.offset)
    return body.load(source.base, place, bounds)
