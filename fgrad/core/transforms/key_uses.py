"""Which random keys were used, and where.

A key is tracked by the array of its words. A concrete array carries the record of its uses itself.
While a program is staged, uses are collected by its trace; those of its inputs, and of what it
closes over, become part of the program, and each call of it uses the keys that it is given.

Nothing is guessed: words that were computed are a key of their own, and what is not known to be a
second use is none.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core.config import config
from fgrad.core.errors import KeyReuseError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.homes import copied
from fgrad.core.primitive import Value
from fgrad.core.tracing import Trace, state
from fgrad.core.transforms.batch import BatchTrace, BatchTracer
from fgrad.core.transforms.stage import StageTrace, StageTracer
from fgrad.core.where import Where, here

_ALL = -1
_ADVICE = (
    "the same key gives the same numbers. Use fgrad.random.split first, or fgrad.random.clone "
    "where repetition is meant"
)


class Ledger:
    """The uses of an array of keys, key by key.

    Args:
        shape: Of the array of keys.
    """

    __slots__ = ("_uses", "shape", "size")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.size = prod(shape)
        # The flat position of a key, or _ALL, → the place of its first use. `setdefault` is atomic:
        # of several threads one finds its own entry. A use of all keys and one of some first write,
        # then look at each other's entries, so that both never go unseen.
        self._uses: dict[int, tuple[Where | None]] = {}

    def use(self, positions: Any, place: Where | None) -> tuple[Where | None] | None:
        """Mark keys as used.

        Args:
            positions: Flat indices into the array, of any shape; None for all of it.
            place: The line that uses them.

        Returns:
            None, or a tuple of the place where one of them was used before.
        """
        uses = self._uses
        own = (place,)
        found: tuple[Where | None] | None = None
        if positions is None:
            first = uses.setdefault(_ALL, own) if self.size else own
            if first is own and len(uses) > 1:
                first = next(use for at, use in tuple(uses.items()) if at != _ALL)
            return None if first is own else first
        flat = positions.reshape(-1).tolist()
        if len(set(flat)) < len(flat):
            found = own
        for at in flat:
            first = uses.setdefault(at, own)
            if first is not own:
                found = first
        return uses.get(_ALL, found) if flat else None

    def used(self) -> tuple[Any, Where | None] | None:
        """The flat positions that were used (None for all) and one place; None if none was."""
        for at, (place,) in self._uses.items():
            if at == _ALL or _ALL not in self._uses:
                flat = None if at == _ALL else np.fromiter(self._uses, np.int64, len(self._uses))
                return flat, place
        return None


class KeyUses:
    """Keys that are entries of an array of keys, as a ledger knows them.

    Args:
        ledger: Of the array.
        positions: Flat index of each entry: the axes of the keys, then those that `vmap` maps;
            None for the whole array.
        moves: For the whole array, axes that `vmap` maps, in the order in which they go to the end.
    """

    __slots__ = ("_moves", "_positions", "ledger")

    def __init__(self, ledger: Ledger, positions: Any = None, moves: tuple[int, ...] = ()) -> None:
        self.ledger = ledger
        self._positions = None if positions is None else np.asarray(positions)
        self._moves = moves

    def positions(self) -> Any:
        """The flat index of each key."""
        if self._positions is not None:
            return self._positions
        found = np.arange(self.ledger.size).reshape(self.ledger.shape)
        for axis in self._moves:
            found = np.moveaxis(found, axis, -1)
        return found

    def moved(self, axis: int) -> "KeyUses":
        """The same keys, one axis mapped by `vmap`."""
        if self._positions is None:
            return KeyUses(self.ledger, None, (*self._moves, axis))
        return KeyUses(self.ledger, np.moveaxis(self._positions, axis, -1))

    def use(self, place: Where | None, by: str = "") -> None:
        """Mark the keys as used.

        Args:
            place: The line that uses them.
            by: What to add to a message: which program uses them, and where.

        Raises:
            KeyReuseError: One of them was used before, and `config.key_reuse` is 'raise'.
        """
        earlier = self.ledger.use(self._positions, place)
        if earlier is not None and config.key_reuse == "raise":
            one = self.ledger.size == 1
            which = "this random key was" if one else "a random key of this array was"
            raise KeyReuseError(f"{which} used before, at {earlier[0]}{by}; {_ADVICE}")


# ------------------------------------------------------------------------------- keys of values


class TraceUses:
    """What a staging trace knows of the keys in its program: words by identity, their uses."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[int, tuple[Value, KeyUses]] = {}

    def of_program(
        self, consts: Sequence[Value], inputs: Sequence[Value], outs: Sequence[Value]
    ) -> "ProgramUses | None":
        """The uses that a call of the finished program makes.

        Args:
            consts: What it closes over.
            inputs: Its tracers.
            outs: What it returns.
        """
        entries = []
        for i, x in enumerate((*consts, *inputs)):
            value, uses = self.found.get(id(x), (None, None))
            # Words without a record of their own were made while tracing: each call makes its own.
            if uses is None or (type(value) is ArrayImpl and not hasattr(value, "_uses")):
                continue
            used = uses.ledger.used()
            if used is not None:
                returned = tuple(k for k, y in enumerate(outs) if y is x)
                entries.append((i, *used, returned))
        return ProgramUses(entries) if entries else None


def uses_of(words: Value) -> KeyUses | None:
    """The record of the keys with these words, as the current trace sees them; None if unknown."""
    trace, root, dims = _root(words)
    if state.again is not None and (trace is None or _is_around(trace, state.again)):
        return None
    if trace is None:
        if type(root) is not ArrayImpl:
            return None
        found: KeyUses | None = getattr(root, "_uses", None)
        if found is None:
            found = root._uses = KeyUses(Ledger(root.shape[:-1]))
    else:
        if trace.uses is None:
            trace.uses = TraceUses()
        kept = trace.uses.found.get(id(root))
        if kept is None:
            kept = trace.uses.found[id(root)] = root, KeyUses(Ledger(root.shape[:-1]))
        found = kept[1]
    for axis in reversed(dims):
        found = found.moved(axis)
    return found


def select(words: Value, chosen: Value, where: Any) -> None:
    """Record that the keys `chosen` are a part of the keys `words`.

    Args:
        words: Of an array of keys.
        chosen: Of a part of it.
        where: From the position of each key, of the shape of the array and further axes, to those
            that were chosen.
    """
    uses = uses_of(words)
    trace, root, dims = _root(chosen)
    if uses is None or (trace is None and type(root) is not ArrayImpl):
        return
    try:
        positions = np.asarray(where(uses.positions()))
    except IndexError:  # out of bounds under `config.out_of_bounds`: the words are some others
        return
    if positions.ndim - len(dims) != chosen.ndim - 1:
        return
    for axis in dims:
        positions = np.moveaxis(positions, -1, axis)
    part = KeyUses(uses.ledger, positions)
    if trace is None:
        root._uses = part
    else:
        trace.uses.found[id(root)] = root, part


def new_words(words: Value, *, copy: bool = False) -> Value:
    """The same words as a key of its own.

    Args:
        words: Of a key that was made just now, or with `copy` of any key.
        copy: Whether somebody may hold these words.
    """
    if type(words) is StageTracer:
        # Equal equations are one: what is the same value may be meant as two keys.
        return StageTracer(words.owner, words.atom)
    if type(words) is BatchTracer:
        return BatchTracer(words.owner, new_words(words.value, copy=copy), words.dim)
    if type(words) is ArrayImpl and copy:
        return ArrayImpl(copied(words._data))
    return words


def remember(words: Value) -> None:
    """Let keys that are made outside of any program carry the record of their uses."""
    if type(words) is ArrayImpl and _root(words)[0] is None:
        uses_of(words)


def _root(value: Value) -> tuple[StageTrace | None, Value, list[int]]:
    """The staging trace that a value belongs in, what it is there, and which axes are mapped."""
    trace: Any = state.trace
    dims: list[int] = []
    while trace is not None and not isinstance(trace, StageTrace):
        if isinstance(trace, BatchTrace):
            value, dim = trace.split(value)
            if dim is not None:
                dims.append(dim)
        trace = trace.parent
    return trace, value, dims


def _is_around(trace: Trace, inner: Trace) -> bool:
    """Whether `trace` is `inner` or one around it."""
    step: Trace | None = inner
    while step is not None and step is not trace:
        step = step.parent
    return step is trace


# ------------------------------------------------------------------------------- keys of programs


class ProgramUses:
    """The keys that a call of a program uses.

    Attributes:
        entries: For each input that holds keys: its index, the flat positions of those that are
            used (None for all), the line, and the outputs that it is returned as.
    """

    __slots__ = ("entries",)

    def __init__(self, entries: Sequence[tuple[int, Any, Where | None, tuple[int, ...]]]) -> None:
        self.entries = tuple(entries)

    def call(self, values: Sequence[Value], name: str) -> None:
        """Use the keys among the inputs of a call.

        Args:
            values: The inputs, constants first.
            name: How messages call the program.

        Raises:
            KeyReuseError: One of them was used before.
        """
        place = here()
        for i, flat, inner, _ in self.entries:
            _use_part(values[i], flat, place, _by(name, inner))

    def loop(
        self, values: Sequence[Value], name: str, num_consts: int, num_carry: int, length: int
    ) -> None:
        """Use the keys among the inputs of a loop, whose body this is.

        Args:
            values: The inputs: constants, first carry, stacked inputs.
            name: How messages call the body.
            num_consts: Number of constants, which each step sees.
            num_carry: Number of carries.
            length: Number of steps.

        Raises:
            KeyReuseError: A key was used before, or several steps use the same.
        """
        place = here()
        for i, flat, inner, returned in self.entries if length else ():
            by = _by(name, inner)
            if i >= num_consts + num_carry:
                _use_part(values[i], flat, place, by, axis=length)
                continue
            _use_part(values[i], flat, place, by)
            same = i < num_consts or i - num_consts in returned
            if same and length > 1 and config.key_reuse == "raise":
                raise KeyReuseError(
                    f"each of the {length} steps of {name} uses the same random key, at {inner}; "
                    f"{_ADVICE}; pass one key a step, or fold in the index of the step"
                )

    def call_one_of(
        self, programs: Sequence[tuple["ProgramUses | None", Sequence[Value]]], names: Sequence[str]
    ) -> None:
        """Use the keys that each of several programs, of which this is the first, would use.

        Args:
            programs: The uses and the inputs of each.
            names: How messages call them.

        Raises:
            KeyReuseError: One of them was used before.
        """
        rows = [
            {id(values[i]): (values[i], flat, inner) for i, flat, inner, _ in uses.entries}
            if uses is not None else {}
            for uses, values in programs
        ]  # fmt: skip
        place = here()
        for key, (value, flat, inner) in rows[0].items():
            if not all(key in row for row in rows):
                continue
            for row in rows[1:]:
                other = row[key][1]
                if flat is None or other is None:
                    flat = other if flat is None else flat
                else:
                    flat = np.intersect1d(flat, other)
            _use_part(value, flat, place, _by(names[0], inner))


def _by(name: str, inner: Where | None) -> str:
    return f", and {name} uses it at {inner}"


def _use_part(
    words: Value, flat: Any, place: Where | None, by: str, axis: int | None = None
) -> None:
    uses = uses_of(words)
    if uses is None:
        return
    if flat is not None:
        keys = words.ndim - 1
        positions = uses.positions()
        extra = positions.shape[keys:]
        if axis is None:
            positions = positions.reshape((-1, *extra))[flat]
        else:
            positions = positions.reshape((axis, -1, *extra))[:, flat]
        uses = KeyUses(uses.ledger, positions)
    uses.use(place, by)
