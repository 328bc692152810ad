"""`tap`: look at a cotangent, or change it, on its way back."""

from typing import Any

from fgrad.core.transforms.custom.reverse import custom_vjp
from fgrad.core.transforms.custom.shared import Fun


def tap(x: Any, hook: Fun) -> Any:
    """`x` itself; in reverse mode its cotangent passes through `hook`.

    Args:
        x: An array or a tree of arrays.
        hook: ``hook(ct) -> ct`` or None (the cotangent is left as it is). Inside `vmap` it sees
            the cotangent of one batch element, or, where `x` is the same for all, the sum of
            theirs; inside `jit` it is traced.

    Returns:
        `x`.

    Example:
        >>> import fgrad as fg
        >>> fg.grad(lambda x: fg.tap(x, lambda ct: 10.0 * ct) * 3.0)(1.0)
        Array(30., dtype=float32)
    """

    def bwd(_res: None, ct: Any) -> tuple[Any]:
        changed = hook(ct)
        return (ct if changed is None else changed,)

    tapped = custom_vjp(lambda x: x)
    tapped.defvjp(lambda x: (x, None), bwd)
    return tapped(x)
