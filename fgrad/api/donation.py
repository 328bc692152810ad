"""Donated arguments: which they are, that nobody else holds them, and what a failed call leaves."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fgrad.api.execution import Runnable
from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DonationError
from fgrad.core.evaluate import BORROWED, ArrayImpl, DonatedBuffer
from fgrad.core.primitive import Value


def donated_leaves(
    args: Sequence[Any], words: Mapping[str, Any], given: Callable[[int | str], bool]
) -> tuple[int, ...]:
    """The positions, among the leaves of ``(args, words)``, of those that are donated.

    Args:
        args: Positional arguments.
        words: Keyword arguments.
        given: Whether the argument of a position or name is donated.
    """

    def marked(key: int | str, argument: Any) -> Any:
        leaves, tree = trees.flatten(argument)
        return trees.unflatten(tree, [given(key)] * len(leaves))

    tree = (
        tuple(marked(i, a) for i, a in enumerate(args)),
        {k: marked(k, a) for k, a in words.items()},
    )
    return tuple(i for i, mark in enumerate(trees.leaves(tree)) if mark)


def check_donated(values: Sequence[Value], positions: Sequence[int], name: str) -> None:
    """Raise unless the call gets each donated array once: a buffer can be given away once.

    Raises:
        DonationError: An array stands at a donated position and at another one.
    """
    if len(set(map(id, values))) == len(values):
        return
    times = Counter(map(id, values))
    for i in positions:
        x = values[i]
        if times[id(x)] > 1:
            raise DonationError(
                f"{name} got the same {x.aval} {times[id(x)]} times, donated; pass a copy, or do "
                f"not donate it"
            )


def check_usable(given: Sequence[ShapedArray], results: Sequence[ShapedArray], name: str) -> None:
    """Raise unless each donated array has the type of a result of its own.

    Raises:
        DonationError: One fits no result that another does not take.
    """
    room = Counter((a.shape, a.dtype) for a in results)
    for aval in given:
        room[aval.shape, aval.dtype] -= 1
        if room[aval.shape, aval.dtype] < 0:
            raise DonationError(
                f"the donated {aval} of {name} fits no result that another donated argument does "
                f"not take: its results are {', '.join(map(str, results))}; do not donate it"
            )


def stand_ins(avals: Sequence[ShapedArray], name: str) -> list[DonatedBuffer]:
    """What arrays of some types hold once they were donated; arrays may share them."""
    return [DonatedBuffer(a, name) for a in avals]


def give_away(values: Sequence[Value], positions: Sequence[int], name: str) -> None:
    """Take the buffers of donated arrays: they cannot be used any more."""
    for i in positions:
        x = values[i]
        if type(x) is ArrayImpl and not x._flags & BORROWED and type(x._data) is not DonatedBuffer:
            x._data = DonatedBuffer(x._data, name)


Given = dict[int, tuple[ArrayImpl, Any]]
_HELD = 2  # references to a buffer that is given: in the list of buffers, and with its array


def claim(
    program: Runnable, values: Sequence[Value], buffers: list[Any], positions: Sequence[int],
    gone: Sequence[DonatedBuffer], kept: Sequence[int], name: str,
) -> Given:  # fmt: skip
    """Take donated buffers away from their arrays, before a program writes results into them.

    No other thread can begin to use them then; buffers that somebody holds already, or that belong
    to the caller, are copied.

    Args:
        program: What runs.
        values: Its inputs.
        buffers: Those of `values`, with no other reference to them; copies replace some of them.
        positions: Which of them are donated.
        gone: What their arrays hold from now on.
        kept: The other positions.
        name: Of the function.

    Returns:
        What `restore` takes, should nothing have run.

    Raises:
        DonationError: As `check_donated`.
    """
    given: Given = {}
    try:
        try:
            _take(given, values, buffers, positions, gone)
        finally:
            whole = len(given) == len(positions)
            # An array that was taken and stands at another position too has nothing there.
            if not whole or any(type(values[i]._data) is DonatedBuffer for i in kept):
                check_donated(values, positions, name)
        program.own(buffers, given, _HELD)
    except BaseException:
        restore(given)
        raise
    return given


def _take(
    given: Given, values: Sequence[Value], buffers: Sequence[Any], positions: Sequence[int],
    gone: Sequence[DonatedBuffer],
) -> None:  # fmt: skip
    for i, stand_in in zip(positions, gone, strict=True):
        x = values[i]
        if type(x) is ArrayImpl and not x._flags & BORROWED:
            data = x._data
            if data is not buffers[i]:  # another thread has donated it meanwhile
                raise data.gone()
            x._data = stand_in
            given[i] = (x, data)


def restore(given: Given) -> None:
    """Give buffers back to their arrays: nothing has been written to them."""
    for x, data in given.values():
        x._data = data
