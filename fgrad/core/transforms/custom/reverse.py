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
from fgrad.core.tracing import entering, running_again
from fgrad.core.transforms.custom.arguments import Custom, CustomCall
from fgrad.core.transforms.custom.forward import run_jvp
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
                `fgrad.testing.check_custom_vjp` checks both.
        """
        self.fwd, self.bwd, self.jvp = fwd, bwd, jvp
        self.checked.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the function, under its rules where it is transformed."""
        if self.fwd is None or self.bwd is None:
            name = name_of(self.fun)
            raise CustomRuleError(f"{name} has no reverse rule; give one with {name}.defvjp")
        call = CustomCall(self, self._resolve(args, kwargs))
        values = call.flatten()
        rule = _VJPRule(call, self.fwd, self.bwd, self.jvp)
        jvp = None if self.jvp is None else rule.forward
        with entering():
            outs = VJPCall(self.identity, call.fun, rule.run_fwd, rule.run_bwd, jvp).rebind(values)
        return trees.unflatten(call.out_tree, outs)


class _VJPRule:
    """The rules of one `custom_vjp` call over flat values, with their checks."""

    __slots__ = ("bwd", "call", "fwd", "jvp", "res_tree")

    def __init__(self, call: CustomCall, fwd: Fun, bwd: Fun, jvp: Fun | None) -> None:
        self.call = call
        self.fwd = fwd
        self.bwd = bwd
        self.jvp = jvp
        self.res_tree: Any = None

    def run_fwd(self, *flat: Value) -> tuple[list[Value], list[Any]]:
        pair = self.fwd(*self.call.arguments(flat))
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise CustomRuleError(
                f"the fwd rule of {self.call.name} must return a pair (output, residuals), got "
                f"{type(pair).__name__}"
            )
        outs, out_tree = trees.flatten(pair[0])
        values = [as_value(y) for y in outs]
        self.call.check("fwd", flat, out_tree, values)
        residuals, self.res_tree = trees.flatten(pair[1])
        return values, [as_value(r) if hasattr(r, "dtype") else r for r in residuals]

    def run_bwd(self, residuals: Sequence[Any], cts: Values) -> list[Value | None]:
        call = self.call
        res = trees.unflatten(self.res_tree, residuals)
        ct = trees.unflatten(call.out_tree, cts)
        # A rule may draw once more what the function drew, from the key that it kept.
        with user_lines(), running_again():
            back = self.bwd(*call.static, res, ct)
        if not isinstance(back, (tuple, list)) or len(back) != len(call.moving):
            got = f"{len(back)} entries" if isinstance(back, (tuple, list)) else type(back).__name__
            raise CustomRuleError(
                f"the bwd rule of {call.name} must return a tuple with one cotangent for each of "
                f"its {len(call.moving)} differentiated arguments, got {got}"
            )
        entries = _cotangent_leaves(call.name, tuple(back), call.tree)
        return [
            _check_rule_ct(call.name, i, c, a)
            for i, (c, a) in enumerate(zip(entries, call.avals, strict=True))
        ]

    def forward(self, primals: Values, tangents: Values) -> tuple[list[Value], list[Value]]:
        assert self.jvp is not None
        return run_jvp(self.call, self.jvp, primals, tangents)


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
