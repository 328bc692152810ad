"""Named values, and the policies of `checkpoint` that say what is kept."""

from collections.abc import Callable
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Case,
    Lowering,
    Primitive,
    Spec,
)
from fgrad.core.tracing import bind

Policy = Callable[..., bool]


name_p: Primitive = Primitive(
    "name",
    "The value itself, under a name that checkpoint policies see.",
    abstract=lambda x, *, name: x,
    eager=lambda _xp, x, *, name: x,
    jvp=lambda ps, ts, **params: (
        bind(name_p, *ps, **params),
        None if ts[0] is None else bind(name_p, *ts, **params),
    ),
    transpose=lambda ct, _x, **params: (bind(name_p, ct, **params),),
    vjp=basis.linear_pullback(lambda ct, _x, **_params: (ct,)),
    batch=lambda _axis, args, dims, **params: (bind(name_p, *args, **params), dims[0]),
    lower=Lowering("view", "identity"),
    linear="jointly",
    spec=Spec(cases=(Case("...", {"name": "x"}),), reference=lambda x, *, name: x, ulps=0.0),
)


def checkpoint_name(x: Any, name: str) -> Any:
    """`x` itself, under a name for `save_only_these_names` and its kin.

    Args:
        x: An array or a tree of arrays.
        name: The name.
    """
    return trees.tree_map(lambda leaf: bind(name_p, as_value(leaf), name=name), x)


def everything_saveable(*_avals: Any, **_params: Any) -> bool:
    """Keep whatever the pullbacks ask for."""
    return True


def nothing_saveable(*_avals: Any, **_params: Any) -> bool:
    """Keep the inputs alone."""
    return False


class _NamedPolicy:
    """A policy that compares by what made it, so that caches find it again.

    Attributes:
        drops: Names whose values are not kept even where another equation made them.
    """

    __slots__ = ("drops", "key", "policy")

    def __init__(self, policy: Policy, key: Any, drops: frozenset[str] = frozenset()) -> None:
        self.policy = policy
        self.key = key
        self.drops = drops

    def __call__(self, prim: Any, *avals: Any, **params: Any) -> bool:
        return self.policy(prim, *avals, **params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NamedPolicy) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return str(self.key[0])

    def __reduce__(self) -> tuple[Any, ...]:
        name, *args = self.key
        made_by = globals()[name]
        return made_by, tuple(sorted(args[0])) if isinstance(args[0], frozenset) else tuple(args)


_PRODUCTS = ("dot_general", "conv_general_dilated", "attention")


def dots_saveable(prim: Any, *_avals: Any, **_params: Any) -> bool:
    """Keep the results of matrix products, convolutions and attention."""
    return prim.name in _PRODUCTS


def dots_with_no_batch_dims_saveable(prim: Any, *_avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products without batch dimensions."""
    if prim.name != "dot_general":
        return False
    (_, _), (lhs_batch, rhs_batch) = params["dimension_numbers"]
    return not lhs_batch and not rhs_batch


def save_only_these_names(*names: str) -> Policy:
    """Keep only values named by `checkpoint_name` with one of these names."""
    kept = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] in kept

    return _NamedPolicy(policy, ("save_only_these_names", kept))


def save_any_names_but_these(*names: str) -> Policy:
    """Keep values named by `checkpoint_name`, but not with one of these names."""
    dropped = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] not in dropped

    return _NamedPolicy(policy, ("save_any_names_but_these", dropped))


def save_anything_except_these_names(*names: str) -> Policy:
    """Keep whatever the pullbacks ask for, but not values named with one of these names.

    The value that carries the name and the one it was made from are the same array: neither is
    kept.
    """
    dropped = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return not (prim is name_p and params["name"] in dropped)

    return _NamedPolicy(policy, ("save_anything_except_these_names", dropped), dropped)


def save_from_both_policies(first: Policy, second: Policy) -> Policy:
    """Keep what either policy keeps."""

    def policy(prim: Any, *avals: Any, **params: Any) -> bool:
        return first(prim, *avals, **params) or second(prim, *avals, **params)

    drops: frozenset[str] = getattr(first, "drops", frozenset()) & getattr(
        second, "drops", frozenset()
    )
    return _NamedPolicy(policy, ("save_from_both_policies", first, second), drops)
