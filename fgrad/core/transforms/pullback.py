"""The pullback of a reverse-mode call, and what it keeps."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import CotangentError
from fgrad.core.evaluate import ArrayImpl, as_value, borrow, is_buffer
from fgrad.core.ir import ClosedJaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, entering
from fgrad.core.transforms.stage import stage
from fgrad.core.transforms.tape import Push, Record, Tape
from fgrad.core.tree_registry import register
from fgrad.core.where import Where


class Residual:
    """One value that a pullback keeps.

    Attributes:
        name: The primitive that asked for it.
        shape: Its shape.
        dtype: Its dtype.
        nbytes: Its bytes.
        source: The user's line.
    """

    __slots__ = ("dtype", "name", "nbytes", "shape", "source")

    def __init__(self, name: str, value: Value, source: Where | None) -> None:
        self.name = name
        self.shape = value.shape
        self.dtype = value.dtype
        self.nbytes = value.nbytes
        self.source = source

    def __repr__(self) -> str:
        aval = ShapedArray(self.shape, self.dtype)
        return f"{aval} {self.nbytes} B kept by {self.name} at {self.source}"


class Pullback:
    """The function from cotangents of the outputs to cotangents of the inputs.

    Calling it keeps the residuals, so it may be called again; `consume` frees each after its last
    use. It is a pytree whose leaves are the residuals: it can be mapped over, moved, copied and
    pickled. A pickled pullback is data: rules of `custom_vjp` functions are staged to programs, and
    it gives the same bits in another process.
    """

    __slots__ = ("_in_tree", "_inexact", "_out_tree", "_tape")

    def __init__(
        self, tape: Tape, in_tree: Any, out_tree: Any, inexact: Sequence[ShapedArray | None]
    ) -> None:
        self._tape = tape
        self._in_tree = in_tree
        self._out_tree = out_tree
        self._inexact = tuple(inexact)

    def __call__(self, ct: Any) -> Any:
        """Cotangents of the inputs, a tuple with one entry an input.

        Args:
            ct: A tree like the output, of the shapes and dtypes of its leaves.

        Raises:
            CotangentError: The tree, a shape or a dtype differs from the output's.
        """
        return self._run(ct, consume=False)

    def consume(self, ct: Any) -> Any:
        """Like calling it, freeing each residual after its last use.

        Raises:
            ResidualsFreedError: On a second use.
        """
        return self._run(ct, consume=True)

    def _run(self, ct: Any, *, consume: bool) -> Any:
        leaves, tree = trees.flatten(ct)
        if tree != self._out_tree:
            raise CotangentError(
                f"the cotangent must be a tree like the output {self._out_tree}, got {tree}"
            )
        with entering():
            cts = [
                check_cotangent(borrow(x), a)
                for x, a in zip(leaves, self._tape.out_avals, strict=True)
            ]
            return self._unflatten(self._tape.backward(cts, consume=consume))

    def _unflatten(self, cts: Sequence[Value | None]) -> Any:
        given = iter(cts)
        full = []
        for aval in self._inexact:
            ct = next(given) if dtypes.is_inexact(aval.dtype) else None  # type: ignore[union-attr]
            full.append(basis.zeros(aval.tangent()) if ct is None else owned(ct))  # type: ignore[union-attr]
        return trees.unflatten(self._in_tree, full)

    @property
    def residuals(self) -> list[Residual]:
        """What is kept, each value once, with the line that made it."""
        seen: dict[int, Residual] = {}
        for record in self._tape.records or ():
            for x in record.residuals:
                if isinstance(x, Array):
                    seen.setdefault(id(x), Residual(record.name, x, record.source))
        return list(seen.values())

    @property
    def jaxpr(self) -> ClosedJaxpr:
        """The pullback as a program of its cotangents; residuals are its constants."""
        avals = [a.tangent() for a in self._tape.out_avals]
        program, consts = stage(
            lambda *cts: [
                basis.zeros(a.tangent()) if ct is None else ct
                for a, ct in zip(
                    self._tape.in_avals, self._tape.backward(cts, consume=False), strict=True
                )
            ],
            avals,
            "pullback.jaxpr",
        )
        return ClosedJaxpr(program, consts)

    def __copy__(self) -> "Pullback":
        return _unflatten_pullback(self, _flatten_pullback(self)[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pullback":
        leaves = []
        for x in _flatten_pullback(self)[0]:
            if id(x) not in memo:
                memo[id(x)] = x.__deepcopy__(memo)
            leaves.append(memo[id(x)])
        return _unflatten_pullback(self, leaves)

    def __reduce__(self) -> tuple[Any, ...]:
        # Few programs save a pullback: what that takes loads when it is asked for.
        saving = import_module("fgrad.core.transforms.saving")
        return saving.reduce_pullback(self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        freed = self._tape.records is None
        total = sum(r.nbytes for r in self.residuals)
        return f"Pullback({'consumed' if freed else f'{total} B of residuals'})"


def _flatten_pullback(p: Pullback) -> tuple[list[Any], Any]:
    tape = p._tape
    records = tape.records or []
    leaves = [x for r in records for x in r.residuals if isinstance(x, Array)]
    return leaves, p


def _unflatten_pullback(p: Pullback, leaves: Any) -> Pullback:
    given = iter(leaves)
    tape = p._tape

    def moved(x: Any) -> Any:
        if not isinstance(x, Array):
            return x
        leaf = next(given)
        return as_value(leaf) if is_buffer(leaf) else leaf

    records: list[Record] | None = None
    if tape.records is not None:
        records = [r.with_residuals([moved(x) for x in r.residuals]) for r in tape.records]
    copy = Tape(records, tape.inputs, tape.outputs, tape.in_avals, tape.out_avals, tape.size)
    return Pullback(copy, p._in_tree, p._out_tree, p._inexact)


def check_cotangent(ct: Value, out: ShapedArray) -> Value | None:
    """The cotangent of an output, checked; None for an output without derivative."""
    if not dtypes.is_inexact(out.dtype):
        if not basis.is_zero_dtype(ct.dtype) or ct.shape != out.shape:
            raise CotangentError(
                f"the output {out} has no derivative: its cotangent must have dtype float0, got "
                f"{ct.aval}; use numpy.zeros({out.shape}, fgrad.float0)"
            )
        return None
    if ct.shape != out.shape:
        raise CotangentError(
            f"the cotangent has shape {list(ct.shape)}, the output {list(out.shape)} ({out}); they "
            f"must be the same"
        )
    if ct.dtype != out.dtype:
        if basis.gives_way(ct, out.dtype):
            return basis.convert_element_type(ct, out.dtype)
        raise CotangentError(
            f"the cotangent is {ct.aval}, the output {out}; convert the cotangent with "
            f"astype({out.dtype.name!r})"
        )
    return ct


def owned(x: Value) -> Value:
    """`x`, copied if it is a concrete array over a buffer that the caller could write to."""
    return x.owned() if type(x) is ArrayImpl else x


def own_residuals(records: Sequence[Record]) -> None:
    """Copy each kept buffer that the caller could still write to, once."""
    copies: dict[int, Value] = {}
    for record in records:
        if any(type(x) is ArrayImpl and x._flags for x in record.residuals):
            record.residuals = [_once(x, copies) for x in record.residuals]
        if type(record.forward) is Push:
            record.forward = Push(
                record.forward.prim, [_once(x, copies) for x in record.forward.primals]
            )


def _once(x: Any, copies: dict[int, Value]) -> Any:
    if type(x) is not ArrayImpl:
        return x
    if id(x) not in copies:
        copies[id(x)] = owned(x)
    return copies[id(x)]


register(Pullback, _flatten_pullback, _unflatten_pullback)
