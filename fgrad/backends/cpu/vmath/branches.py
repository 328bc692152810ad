"""Rare cases, kept out of the way of vector code, and loops whose lanes take their own time."""

from collections.abc import Callable, Sequence

from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath.lanes import Lanes, where


def _any(condition: Lanes) -> str:
    """Whether a condition holds in some lane: the name of an i1."""
    builder = condition.builder
    if builder.width == 1:
        return condition.name
    mask = f"i{builder.width}"
    packed = builder.emit(f"bitcast {builder.vector('i1')} {condition.name} to {mask}")
    return builder.emit(f"icmp ne {mask} {packed}, 0")


def unlikely(
    condition: Lanes, usual: list[Lanes], compute: Callable[[], list[Lanes]]
) -> list[Lanes]:
    """`usual`, but where the condition holds what `compute` emits.

    It runs only where the condition holds in some lane: a branch, after which the builder is in
    another block.
    """
    if condition.builder.control is not None:
        chosen: list[Lanes] = condition.builder.control.unlikely(condition, usual, compute)
        return chosen
    builder, met = condition.builder, _any(condition)
    rare, after, before = builder.fresh("rare"), builder.fresh("after"), builder.block
    weights = '!prof !{!"branch_weights", i32 1, i32 2000}'
    builder.effect(f"br i1 {met}, label %{rare}, label %{after}, {weights}")
    builder.start(rare)
    chosen = [where(condition, new, old) for old, new in zip(usual, compute(), strict=True)]
    left = builder.block
    builder.effect(f"br label %{after}")
    builder.start(after)
    return [
        _phi(builder, builder.emit("", new.scalar), old, before, new, left)
        for old, new in zip(usual, chosen, strict=True)
    ]


def _phi(builder: Builder, name: str, x: Lanes, from_x: str, y: Lanes, from_y: str) -> Lanes:
    """Give a reserved name the value that it has after either of two blocks."""
    at = next(i for i in reversed(range(len(builder.lines))) if builder.lines[i] == f"  {name} = ")
    incoming = f"[ {x.name}, %{from_x} ], [ {y.name}, %{from_y} ]"
    builder.lines[at] = f"  {name} = phi {builder.vector(x.scalar)} {incoming}"
    return Lanes(builder, name, x.scalar)


def repeat(
    going: Lanes,
    state: Sequence[Lanes],
    step: Callable[..., tuple[Sequence[Lanes], Lanes]],
) -> list[Lanes]:
    """Repeat a step in each lane for as long as it asks for more.

    A lane that has ended keeps its values, so they do not depend on those of other lanes.

    Args:
        going: The lanes that begin.
        state: The values before the first step.
        step: Of the values; gives the next ones, and whether to go on.

    Returns:
        The values after each lane's last step.
    """
    if going.builder.control is not None:
        values: list[Lanes] = going.builder.control.repeat(going, state, step)
        return values
    builder, before = going.builder, going.builder.block
    start = [going, *state]
    body, after = builder.fresh("repeat"), builder.fresh("done")
    builder.effect(f"br i1 {_any(going)}, label %{body}, label %{after}")
    builder.start(body)
    names = [builder.emit("", x.scalar) for x in start]
    on, *old = (Lanes(builder, n, x.scalar) for n, x in zip(names, start, strict=True))
    new, more = step(*old)
    following = [on & more, *(where(on, y, x) for x, y in zip(old, new, strict=True))]
    again, end = _any(following[0]), builder.block
    for name, x, y in zip(names, start, following, strict=True):
        _phi(builder, name, x, before, y, end)
    builder.effect(f"br i1 {again}, label %{body}, label %{after}")
    builder.start(after)
    pairs = zip(start[1:], following[1:], strict=True)
    return [_phi(builder, builder.emit("", x.scalar), x, before, y, end) for x, y in pairs]
