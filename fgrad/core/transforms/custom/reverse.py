"""`custom_vjp`: the decorator, and the checks of what its rules return."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    CustomRuleError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Value,
)
from fgrad.core.tracing import entering
from fgrad.core.transforms.custom.arguments import Custom, bind_arguments, call_fun
from fgrad.core.transforms.custom.forward import check_jvp
from fgrad.core.transforms.custom.shared import Fun, Values
from fgrad.core.transforms.custom.vjp_call import VJPCall
from fgrad.core.transforms.flat import name_of
from fgrad.core.where import user_lines


class custom_vjp(Custom):
    """A function with its own reverse derivative rule; forward mode follows from it.

    Args:
        fun: The function.
        nondiff_argnums: Arguments that are not differentiated; passed to `bwd` first.

    Raises:
        CustomRuleError: When called: no rule was given, or it returns what does not fit.

    Source:
        API as JAX's ``custom_vjp``. Forward mode transposes `bwd` as a function of the cotangent,
        and raises `NonlinearPullbackError` where it is not linear.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> @fg.custom_vjp
        ... def f(x):
        ...     return fnp.sin(x)
        >>> f.defvjp(lambda x: (f(x), x), lambda x, ct: (2.0 * ct,))
        >>> fg.grad(f)(0.0)
        Array(2., dtype=float32)
        >>> fg.jvp(f, (0.0,), (1.0,))[1]
        Array(2., dtype=float32)
    """

    fwd: Fun | None = None
    bwd: Fun | None = None
    jvp: Fun | None = None

    def defvjp(self, fwd: Fun, bwd: Fun, jvp: Fun | None = None) -> None:
        """Give the rules.

        Args:
            fwd: ``fwd(*args) -> (output, residuals)``; residuals are any tree.
            bwd: ``bwd(*nondiff, residuals, ct) -> cts``: a tuple with a cotangent, or None for
                zero, for each argument that is differentiated.
            jvp: Optionally the forward rule, as `custom_jvp` takes it;
                `fgrad.testing.check_vjp_rule` compares both.
        """
        self.fwd, self.bwd, self.jvp = fwd, bwd, jvp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the function, under its rules where it is transformed."""
        name = name_of(self.fun)
        if self.fwd is None or self.bwd is None:
            raise CustomRuleError(f"{name} has no reverse rule; give one with {name}.defvjp")
        full = self._resolve(args, kwargs)
        static, moving = bind_arguments(name, full, self.nondiff_argnums)
        leaves, tree = trees.flatten([full[i] for i in moving])
        values = [as_value(x) for x in leaves]
        rule = _VJPRule(self, full, static, moving, tree, [v.aval for v in values])
        jvp = None if self.jvp is None else rule.forward
        with entering():
            outs = VJPCall(self.identity, rule.fun, rule.run_fwd, rule.run_bwd, jvp).rebind(values)
        return trees.unflatten(rule.out_tree[0], outs)


class _VJPRule:
    """The functions of one `custom_vjp` call over flat values, with their checks."""

    __slots__ = ("avals", "full", "moving", "out_tree", "owner", "res_tree", "static", "tree")

    def __init__(
        self, owner: custom_vjp, full: list[Any], static: list[Any], moving: list[int], tree: Any,
        avals: list[ShapedArray],
    ) -> None:  # fmt: skip
        self.owner = owner
        self.full = full
        self.static = static
        self.moving = moving
        self.tree = tree
        self.avals = avals
        self.out_tree: list[Any] = []
        self.res_tree: Any = None

    def fun(self, *flat: Value) -> list[Value]:
        return call_fun(
            self.owner.fun, self.full, self.moving, trees.unflatten(self.tree, flat), self.out_tree
        )

    def run_fwd(self, *flat: Value) -> tuple[list[Value], list[Any]]:
        args = list(self.full)
        for i, part in zip(self.moving, trees.unflatten(self.tree, flat), strict=True):
            args[i] = part
        assert self.owner.fwd is not None
        pair = self.owner.fwd(*args)
        name = name_of(self.owner.fun)
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise CustomRuleError(
                f"the fwd rule of {name} must return a pair (output, residuals), got "
                f"{type(pair).__name__}"
            )
        outs, out_tree = trees.flatten(pair[0])
        residuals, self.res_tree = trees.flatten(pair[1])
        if self.out_tree and self.out_tree[0] != out_tree:
            raise CustomRuleError(
                f"the fwd rule of {name} returned an output {out_tree}, the function "
                f"{self.out_tree[0]}: they must be the same tree"
            )
        self.out_tree[:] = [out_tree]
        kept = [as_value(r) if hasattr(r, "dtype") else r for r in residuals]
        values = [as_value(y) for y in outs]
        return values, kept

    def run_bwd(self, residuals: Sequence[Any], cts: Values) -> list[Value | None]:
        name = name_of(self.owner.fun)
        res = trees.unflatten(self.res_tree, residuals)
        ct = trees.unflatten(self.out_tree[0], cts)
        assert self.owner.bwd is not None
        with user_lines():
            back = self.owner.bwd(*self.static, res, ct)
        if not isinstance(back, (tuple, list)) or len(back) != len(self.moving):
            got = f"{len(back)} entries" if isinstance(back, (tuple, list)) else type(back).__name__
            raise CustomRuleError(
                f"the bwd rule of {name} must return a tuple with one cotangent for each of its "
                f"{len(self.moving)} differentiated arguments, got {got}"
            )
        entries = _cotangent_leaves(name, tuple(back), self.tree)
        return [
            _check_rule_ct(name, i, c, a)
            for i, (c, a) in enumerate(zip(entries, self.avals, strict=True))
        ]

    def forward(self, primals: Values, tangents: Values) -> tuple[list[Value], list[Value]]:
        assert self.owner.jvp is not None
        pair = self.owner.jvp(
            *self.static,
            tuple(trees.unflatten(self.tree, primals)),
            tuple(trees.unflatten(self.tree, tangents)),
        )
        return check_jvp(name_of(self.owner.fun), pair, self.out_tree)


def _cotangent_leaves(name: str, back: tuple[Any, ...], tree: Any) -> list[Any]:
    """One entry a leaf of the arguments; None stands for zero for all leaves below it."""
    children = tree.children()
    entries: list[Any] = []
    for i, (child, part) in enumerate(zip(children, back, strict=True)):
        if part is None:
            entries += [None] * child.num_leaves
            continue
        leaves, got = trees.flatten(part)
        if got != child:
            raise CustomRuleError(
                f"the bwd rule of {name} returned for argument {i} the tree {got}, the argument is "
                f"{child}"
            )
        entries += leaves
    return entries


def _check_rule_ct(name: str, i: int, ct: Any, primal: ShapedArray) -> Value | None:
    if ct is None or not dtypes.is_inexact(primal.dtype):
        return None
    value = as_value(ct)
    fits = value.dtype == primal.dtype or basis.gives_way(value, primal.dtype)
    if value.shape != primal.shape or not fits:
        raise CustomRuleError(
            f"the bwd rule of {name} returned {value.aval} as cotangent of input {i}, which is "
            f"{primal}; shape and dtype must be the same"
        )
    if value.dtype != primal.dtype:
        return basis.convert_element_type(value, primal.dtype)
    return value
