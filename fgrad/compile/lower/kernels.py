"""From a cluster to its kernel: the order of axes, the body, the stores."""

from collections.abc import Callable, Sequence

from fgrad.compile.kernel import Accumulate, Bound, Kernel, Load, Map, Operand
from fgrad.compile.lower.axes import Atom, Layout, leaves, size_of
from fgrad.compile.lower.body import Body
from fgrad.compile.lower.cluster import Cluster
from fgrad.compile.lower.collapse import collapsed, runs_of
from fgrad.compile.lower.complex import is_complex, position_of
from fgrad.compile.lower.division import divided
from fgrad.compile.lower.indexed import gathered, is_gather
from fgrad.compile.lower.items import POINTWISE, REDUCE, SCAN, VIEW, Item
from fgrad.compile.lower.program import Program
from fgrad.compile.lower.scalars import computed, scan_dtype
from fgrad.compile.lower.signature import Signature, signature_of
from fgrad.compile.lower.views import PARTS, Affine, Inexpressible, index_of, total
from fgrad.compile.plan import contiguous
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom as Value
from fgrad.core.ir import Eqn, Literal, Var

Index = tuple[Affine, ...]

Written = tuple[Kernel, list[Var]]  # with the value behind each operand


def kernel_of(
    program: Program, cluster: Cluster, needed: Sequence[Var], again: Callable[[Var], bool]
) -> list[Written]:
    """The kernel that stores what is needed of a cluster, and kernels that add up parts of it.

    Args:
        program: The program.
        cluster: The cluster.
        needed: Values made in it.
        again: Whether a value that others make is better computed once more than read.
    """
    signature = signature_of(program, cluster, needed, again)
    found = None if signature is None else _known.get(signature.key)
    if signature is not None and found is not None:
        return found.of(signature, cluster)
    writer = _Writer(program, cluster, needed, again)
    written = writer.written()
    if signature is not None:
        if len(_known) >= _KEPT:
            _known.clear()
        _known[signature.key] = _Known(signature, writer, written)
    return written


class _Known:
    """Kernels that were written for a cluster, for others of the same signature."""

    def __init__(self, signature: Signature, writer: "_Writer", written: Sequence[Written]) -> None:
        self.keep = signature.keep
        numbers = dict(signature.numbers)
        self.between: dict[int, ShapedArray] = {}  # values that go from kernel to kernel
        for _, order in writer.ends:
            numbers[order[0]] = number = len(numbers)
            self.between[number] = order[0].aval
        place = {id(item): i for i, (_, item) in enumerate(writer.cluster.items)}
        live = [place[id(item)] for item in writer.items.values()]
        self.kernels: list[tuple[Kernel, list[int], list[int]]] = []
        for i, (kernel, order) in enumerate(written):
            made = [place[id(writer.items[order[-1]])]] if i else live
            self.kernels.append((kernel, [numbers[v] for v in order], made))

    def of(self, signature: Signature, cluster: Cluster) -> list[Written]:
        """The same kernels of another cluster."""
        values = signature.values + [Var(aval) for aval in self.between.values()]
        items, out = cluster.items, []
        for kernel, numbers, made in self.kernels:
            origins = tuple(sorted({items[i][1].origin for i in made}))
            out.append((kernel.of(kernel.name, origins), [values[n] for n in numbers]))
        return out


_known: dict[object, _Known] = {}
_KEPT = 1024


class _Writer:
    """Writes the body of one kernel."""

    def __init__(
        self,
        program: Program,
        cluster: Cluster,
        needed: Sequence[Var],
        again: Callable[[Var], bool],
    ) -> None:
        self.program = program
        self.again = again
        self.cluster = cluster
        self.needed = dict.fromkeys(needed)
        self.items = self._live(cluster, program)
        self.rows = divided(cluster, self.items, self.needed)
        kept, across, inner, free, backward = self.rows
        order = [*kept, *across, *(inner or ()), *free]
        self.place = {a: i for i, a in enumerate(order)}
        self.sizes = [a.size for a in order]
        self.zero = Affine(0, (0,) * len(order))
        first = len(kept) + len(across) if inner is not None else 0
        self.body = Body(
            self.sizes, first, [self.place[a] for a in backward],
            len(order) - len(free) if free else None,
        )  # fmt: skip
        self.known: dict[object, int] = {}
        self.places = {v: self.index(cluster.layouts[v]) for v in self.items}
        self.folds: list[tuple[Var, int, set[Atom]]] = []
        self.ends: list[Written] = []

    # --------------------------------------------------------------------------- axes

    def _live(self, cluster: Cluster, program: Program) -> dict[Var, Item]:
        """The equations that the needed values take, in program order."""
        live: dict[Var, Item] = {}
        wanted = set(self.needed)
        for _, item in reversed(cluster.items):
            outs = item.eqn.outputs
            var = next(v for v in outs if v in cluster.layouts)
            if item.form == VIEW:
                for v in outs:
                    if v in wanted and v in cluster.layouts:
                        live[v] = item
            elif var in wanted:
                live[var] = item
            else:
                continue
            for a in item.eqn.inputs:
                if type(a) is Var:
                    wanted |= bases(program, a)
        return dict(reversed(live.items()))

    # --------------------------------------------------------------------------- body

    def written(self) -> list[Written]:
        """The kernel and those after it, with what each works on."""
        kernel = self.kernel()
        return [(kernel, self.body.order), *self.ends]

    def kernel(self) -> Kernel:
        """The kernel."""
        for var, item in self.items.items():
            if item.form == SCAN:
                self._scan(var, item)
            elif item.form != REDUCE:
                self.value(var, self.places[var])
                if var in self.needed:
                    self._store(var)
            else:
                self._reduce(var, item)
        self._fold()
        origins = sorted({item.origin for item in self.items.values()})
        name = "_".join(dict.fromkeys(i.eqn.primitive.name for i in self.items.values()))[:60]
        return collapsed(name, self.body, self._division(), tuple(origins))

    def _division(self) -> tuple[int, int] | None:
        kept, across, inner = self.rows[:3]
        return None if inner is None else (len(kept), len(kept) + len(across))

    def index(self, layout: Layout) -> Index:
        """The index of a value of that layout, at the current point of the kernel."""
        out = []
        for axis in layout:
            strides = [0] * len(self.sizes)
            step = 1
            for a in reversed(leaves(axis or ())):
                strides[self.place[a]] = step
                step *= a.size
            out.append(Affine(0, tuple(strides)))
        return tuple(out)

    def _store(self, var: Var) -> None:
        index = self.places[var]
        whole, first = self.program.parts.get(var, (var, 0))
        if len(index) > whole.aval.ndim:  # both floats of each element, one after the other
            at = total(index, contiguous(var.aval.shape), len(self.sizes))
        else:
            at = position_of(whole, index, len(self.sizes))
        self.body.store(whole, at.plus(first), self.value(var, index))

    def _reduce(self, var: Var, item: Item) -> None:
        """A reduction over the row, over outer axes, or over both."""
        eqn, walk = item.eqn, self.cluster.walks[var]
        reduced = set(leaves(self.cluster.reduced[var]))
        inner = set(self.rows.inner or ())
        value = self.value(eqn.inputs[0], self.index(walk))
        if reduced & inner and not inner <= reduced:
            self.folds.append((var, value, reduced))
            return
        if reduced and inner <= reduced:
            value = self.body.reduce(item.expr, value)
            reduced -= inner
        index = self.places[var]
        if reduced:
            at = total(index, contiguous(var.aval.shape), len(self.sizes))
            self.body.accumulate(var, at, item.expr, value)
            return
        self.known[(var, index, (), None)] = self.body.rounded(value, var.aval.dtype)
        if var in self.needed:
            self._store(var)

    def _scan(self, var: Var, item: Item) -> None:
        """A value for each element from those up to it."""
        index = self.places[var]
        body, values = self.body, [self.value(a, index) for a in item.eqn.inputs]
        dtype = body.dtype(values[0])
        values = [body.convert(v, scan_dtype(item.expr, dtype)) for v in values]
        value = body.convert(body.scan(item.expr, *values), dtype)
        self.known[(var, index, (), None)] = self.body.rounded(value, var.aval.dtype)
        if var in self.needed:
            self._store(var)

    def _fold(self) -> None:
        """Reduce over some axes of a row: here over the last ones, over others in `ends`."""
        if not self.folds:
            return
        runs = runs_of(self.body, {0, *(self._division() or ()), len(self.sizes)})
        atoms = list(self.place)
        for var, value, reduced in self.folds:
            here: set[Atom] = set()
            for axis in reversed(runs[-1]):
                if atoms[axis] not in reduced:
                    break
                here.add(atoms[axis])
            rest = [a for a in atoms if a in reduced and a not in here]
            count = size_of(rest)
            whole, layout = var, self.cluster.layouts[var]
            if count > 1:
                whole = Var(ShapedArray((count, *var.aval.shape), self.body.dtype(value)))
                layout = [rest, *layout]
                self.ends.append(_added_up(self.items[var], whole))
            at = total(self.index(layout), contiguous(whole.aval.shape), len(self.sizes))
            if here:
                self.body.fold(whole, at, self.items[var].expr, value)
            else:
                self.body.store(whole, at, value)

    def value(
        self, atom: Value, index: Sequence[Affine], bounds: tuple[Bound, ...] = (),
        fill: object = None,
    ) -> int:  # fmt: skip
        """The computed value of an element."""
        if type(atom) is not Var:
            return self._literal(atom)  # type: ignore[arg-type]
        kind = None if fill is None else repr(fill)  # zeros have a sign
        key = (atom, tuple(index), bounds, kind)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._value(atom, tuple(index), bounds, fill)
        return found

    def _literal(self, atom: Literal) -> int:
        dtype = computed(atom.aval.dtype)
        assert dtype is not None
        return self.body.const(atom.value.astype(dtype), dtype)

    def _value(self, var: Var, index: Index, bounds: tuple[Bound, ...], fill: object) -> int:
        program = self.program
        view = None if var in self.cluster.memory else program.view_of(var)
        if view is not None:
            return self._viewed(*view, index, bounds, fill)
        item = self.items.get(var)
        if item is not None and bounds:
            return self.value(var, index)  # it is walked as a whole: nothing lies outside
        if item is not None:
            assert item.form == POINTWISE, "a reduction or scan is used before it is at hand"
            assert index == self.places[var], "a value is walked in two ways"
            return self._pointwise(item, index, ())
        if fill is None and var not in self.cluster.layouts and self.again(var):
            return self._pointwise(program.items[program.made[var][0]], index, bounds)
        at = total(index, contiguous(var.aval.shape), len(self.sizes))
        return self.body.load(var, at, bounds, 0 if fill is None else fill)

    def _pointwise(self, item: Item, index: Index, bounds: tuple[Bound, ...]) -> int:
        eqn = item.eqn
        full = eqn.outputs[0].aval.shape
        values = {}
        for name, a in zip(item.names, eqn.inputs, strict=True):
            shape = a.aval.shape
            extra = len(full) - len(shape)
            part = [index[i + extra] if n == full[i + extra] else self.zero
                    for i, n in enumerate(shape)]  # fmt: skip
            values[name] = self.value(a, part, bounds)
        dtype = eqn.outputs[0].aval.dtype
        same = all(a.aval.dtype == dtype for a in eqn.inputs if a.aval.dtype.kind != "b")
        return self.body.expression(item.expr, values, dtype, same)

    def _viewed(
        self, eqn: Eqn, out: int, index: Index, bounds: tuple[Bound, ...], fill: object
    ) -> int:
        dtype = eqn.outputs[out].aval.dtype
        if not eqn.inputs:  # iota
            wide, axis = computed(dtype) or dtype, eqn.params["dimension"]
            place = self.body.below(eqn.params["shape"][axis], index[axis])
            return self.body.rounded(self.body.convert(place, wide), dtype)
        operand = eqn.inputs[0]
        if is_gather(eqn):
            source = self.program.sources[eqn.outputs[0]]
            return gathered(self.body, eqn, index, bounds, source, self.value)
        if is_complex(operand):  # every second float
            at = position_of(operand, index, len(self.sizes)).plus(PARTS.index(eqn.primitive.name))
            return self.body.load(operand, at, bounds, 0 if fill is None else fill)  # type: ignore[arg-type]
        try:
            step = index_of(eqn, out, index, self.sizes, lambda i, n: self._start(eqn, i, n))
        except Inexpressible:
            assert type(operand) is Var
            assert operand in self.cluster.memory, "a view that has to be in memory is not"
            at = total(index, contiguous(eqn.outputs[out].aval.shape), len(self.sizes))
            return self.body.load(operand, at, bounds, 0 if fill is None else fill)
        if not step.bounds:
            return self.value(operand, step.at, bounds, fill)
        other = eqn.inputs[1]
        if not bounds and type(other) is Literal and self._is_load(operand):
            number = other.value.astype(computed(dtype)).item()
            return self.value(operand, step.at, step.bounds, number)
        inside = self.value(operand, step.at, bounds + step.bounds)
        outside = self.value(other, (), bounds)
        where = self.body.inside(step.bounds)
        return self.body.compute("select", (where, inside, outside), self.body.dtype(inside))

    def _is_load(self, atom: Value) -> bool:
        """Whether a value is read from memory, through views that have no bounds of their own."""
        while atom not in self.cluster.memory and (view := self.program.view_of(atom)) is not None:
            if not view[0].inputs or len(view[0].inputs) > 1:
                return False
            atom = view[0].inputs[0]
        return type(atom) is Var and atom not in self.items

    def _start(self, eqn: Eqn, operand: int, limit: int) -> int:
        """Where a dynamic slice starts along one axis: moved inside."""
        return self.body.clamped(self.value(eqn.inputs[operand], ()), limit)


def _added_up(item: Item, parts: Var) -> Written:
    """A kernel that reduces over the first axis of `parts`, whose other axes are those of a result.

    Args:
        item: The reduction that it completes.
        parts: Its results for parts of what it reduces.
    """
    (var,) = item.eqn.outputs
    count, size, dtype = parts.aval.shape[0], var.aval.size, parts.aval.dtype
    body = (
        Load(0, Map(0, (size, 1)), dtype),
        Accumulate(1, Map(0, (0, 1)), item.expr, 0),
    )
    operands = (Operand(dtype), Operand(var.aval.dtype, written=True))
    name = item.eqn.primitive.name
    return Kernel(name, (count,), (size,), operands, body, 0, (item.origin,)), [parts, var]


def bases(program: Program, atom: Value) -> set[Var]:
    """The values in which views end."""
    out: set[Var] = set()
    waiting: list[Value] = [atom]
    while waiting:
        a = waiting.pop()
        if type(a) is not Var:
            continue
        out.add(a)
        view = program.view_of(a)
        if view is not None:
            waiting += view[0].inputs
    return out
