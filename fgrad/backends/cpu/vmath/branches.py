"""Rare cases, kept out of the way of vector code."""

from collections.abc import Callable

from fgrad.backends.cpu.vmath.lanes import Lanes, where


def unlikely(
    condition: Lanes, usual: list[Lanes], compute: Callable[[], list[Lanes]]
) -> list[Lanes]:
    """`usual`, but where the condition holds what `compute` emits.

    It runs only where the condition holds in some lane: a branch, after which the builder is in
    another block.
    """
    builder = condition.builder
    met = condition.name
    if builder.width > 1:
        mask = f"i{builder.width}"
        packed = builder.emit(f"bitcast {builder.vector('i1')} {met} to {mask}")
        met = builder.emit(f"icmp ne {mask} {packed}, 0")
    rare, after, before = builder.fresh("rare"), builder.fresh("after"), builder.block
    weights = '!prof !{!"branch_weights", i32 1, i32 2000}'
    builder.effect(f"br i1 {met}, label %{rare}, label %{after}, {weights}")
    builder.start(rare)
    chosen = [where(condition, new, old) for old, new in zip(usual, compute(), strict=True)]
    left = builder.block
    builder.effect(f"br label %{after}")
    builder.start(after)
    merged = []
    for old, new in zip(usual, chosen, strict=True):
        incoming = f"[ {old.name}, %{before} ], [ {new.name}, %{left} ]"
        name = builder.emit(f"phi {builder.vector(new.scalar)} {incoming}", new.scalar)
        merged.append(Lanes(builder, name, new.scalar))
    return merged
