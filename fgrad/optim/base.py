"""The protocol of gradient transformations, and the pieces that only combine others.

A transformation is a pair of pure functions. ``init(params)`` makes a state, and
``update(updates, state, params)`` maps gradients to updates and the state to its successor. States
are pytrees, so a step that holds them can be jitted, mapped, checkpointed and saved.
"""

from collections.abc import Callable
from typing import NamedTuple

from fgrad import tree_util
from fgrad.core.errors import ArgumentError
from fgrad.optim._leaves import PyTree, Value, cast, widen

Schedule = Callable[[Value], Value]
ScalarOrSchedule = float | Value | Schedule


class GradientTransformation(NamedTuple):
    """A pair of pure functions ``(init, update)``.

    Attributes:
        init: ``init(params) -> state``.
        update: ``update(updates, state, params=None) -> (updates, state)``; the new updates have
            the tree, shapes and dtypes of the old ones.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> optimizer = optim.sgd(0.5)
        >>> params = {"w": np.ones(2, np.float32)}
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update(params, state, params)
        >>> print(optim.apply_updates(params, updates)["w"])
        [0.5 0.5]
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class MaskedNode(NamedTuple):
    """Stands, without leaves, where a masked transformation does not look."""


class MaskedState(NamedTuple):
    """State of ``masked``.

    Attributes:
        inner_state: State of the wrapped transformation over the selected leaves.
    """

    inner_state: PyTree


def init_empty_state(_params: PyTree) -> EmptyState:
    """``init`` of the transformations without state."""
    return EmptyState()


def identity() -> GradientTransformation:
    """The transformation that returns its updates unchanged.

    Returns:
        A stateless transformation.

    Example:
        >>> import fgrad.optim as optim
        >>> optim.identity().update({"w": 3.0}, optim.EmptyState())
        ({'w': 3.0}, EmptyState())
    """

    def update(updates: PyTree, state: PyTree, _params: PyTree = None) -> tuple[PyTree, PyTree]:
        return updates, state

    return GradientTransformation(init_empty_state, update)


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """Apply ``transformations`` one after the other, the first to the gradients.

    Args:
        *transformations: Each takes the updates of the one before it.

    Returns:
        A transformation whose state is the tuple of their states.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> step = optim.chain(optim.clip(1.0), optim.scale(-0.5))
        >>> state = step.init(np.zeros(2, np.float32))
        >>> print(step.update(np.array([4.0, 0.5], np.float32), state)[0])
        [-0.5  -0.25]
    """
    for step in transformations:
        if not (hasattr(step, "init") and hasattr(step, "update")):
            raise ArgumentError(f"chain takes gradient transformations, got {type(step).__name__}")

    def init(params: PyTree) -> PyTree:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        if not isinstance(state, tuple) or len(state) != len(transformations):
            message = (
                f"chain: the state must be the tuple of {len(transformations)} states that init "
                f"made, got {_describe_state(state)}; pass the state of this very chain"
            )
            raise ArgumentError(message)
        successors = []
        for transformation, part in zip(transformations, state, strict=True):
            updates, successor = transformation.update(updates, part, params)
            successors.append(successor)
        return updates, tuple(successors)

    return GradientTransformation(init, update)


def _describe_state(state: PyTree) -> str:
    if isinstance(state, tuple):
        return f"a {type(state).__name__} of {len(state)}"
    return f"a {type(state).__name__}"


def masked(
    inner: GradientTransformation, mask: PyTree | Callable[[PyTree], PyTree]
) -> GradientTransformation:
    """Apply ``inner`` to the selected leaves and leave the others as they are.

    Args:
        inner: The transformation to apply.
        mask: A tree of Python bools, a prefix of the tree of parameters, or a function that makes
            one from the parameters (or updates). True selects.

    Returns:
        A transformation with a ``MaskedState``; ``inner`` sees no leaf where the mask is False.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> halve_w = optim.masked(optim.scale(0.5), {"w": True, "b": False})
        >>> tree = {"w": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
        >>> updates, _ = halve_w.update(tree, halve_w.init(tree))
        >>> print(updates["w"], updates["b"])
        [0.5] [1.]
    """

    def choose(tree: PyTree) -> PyTree:
        # A module of booleans is a tree, though it can be called.
        return mask(tree) if callable(mask) and tree_util.all_leaves([mask]) else mask

    def select(selected: PyTree, tree: PyTree) -> PyTree:
        return tree_util.tree_map(lambda m, t: t if m else MaskedNode(), selected, tree)

    def init(params: PyTree) -> PyTree:
        selected = choose(params)
        return MaskedState(inner.init(select(selected, params)))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        selected = choose(updates)
        seen_params = None if params is None else select(selected, params)
        new, inner_state = inner.update(select(selected, updates), state.inner_state, seen_params)
        merged = tree_util.tree_map(lambda m, n, o: n if m else o, selected, new, updates)
        return merged, MaskedState(inner_state)

    return GradientTransformation(init, update)


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """The parameters after a step: ``params + updates``, leaf by leaf.

    Args:
        params: Tree of arrays, any float dtypes. None is kept where a leaf is None.
        updates: Tree of the same structure and shapes, as an optimizer's ``update`` returns it.

    Returns:
        A tree like ``params``, each leaf in the dtype of its parameter. Leaves of 16 bits are
        added in float32 and rounded once.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> print(optim.apply_updates(np.ones(2, np.float32), np.ones(2, np.float32)))
        [2. 2.]
    """

    def add(param: Value, update: Value) -> Value:
        return None if param is None else cast(widen(param) + widen(update), param)

    return tree_util.tree_map(add, params, updates, is_leaf=lambda x: x is None)


def require_params(name: str, params: PyTree) -> None:
    """Raise ``ArgumentError`` if ``update`` of ``name`` was called without the parameters."""
    if params is None:
        message = (
            f"{name} needs the parameters: call update(updates, state, params), got params=None"
        )
        raise ArgumentError(message)
