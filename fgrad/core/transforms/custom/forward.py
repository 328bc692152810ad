"""`custom_jvp`: the decorator, and the checks of what its rule returns."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.errors import (
    CustomRuleError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Value,
)
from fgrad.core.tracing import entering
from fgrad.core.transforms.custom.arguments import Custom, CustomCall
from fgrad.core.transforms.custom.jvp_call import JVPCall
from fgrad.core.transforms.custom.shared import Fun, Values
from fgrad.core.transforms.flat import name_of


class custom_jvp(Custom):
    """A function with its own forward derivative rule.

    Args:
        fun: The function.
        nondiff_argnums: Arguments that are not differentiated; passed to the rule first.

    Raises:
        CustomRuleError: When called: no rule was given, or it returns what does not fit.

    Source:
        API as JAX's ``custom_jvp``.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> @fg.custom_jvp
        ... def f(x):
        ...     return fnp.sin(x)
        >>> @f.defjvp
        ... def f_jvp(primals, tangents):
        ...     return f(primals[0]), 2.0 * tangents[0]
        >>> fg.grad(f)(0.0)
        Array(2., dtype=float32)
    """

    jvp: Fun | None = None

    def defjvp(self, jvp: Fun, symbolic_zeros: bool = False) -> Fun:
        """Give the rule: ``jvp(*nondiff, primals, tangents) -> (output, tangent)``."""
        if symbolic_zeros:
            raise CustomRuleError("symbolic_zeros is not offered: zero tangents arrive as arrays")
        self.jvp = jvp
        self.checked.clear()
        return jvp

    def defjvps(self, *jvps: Fun | None) -> None:
        """Give a rule an argument: ``jvp(tangent, output, *primals) -> tangent``, or None."""
        if self.nondiff_argnums:
            raise CustomRuleError("defjvps does not go with nondiff_argnums; use defjvp")

        def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
            if len(jvps) != len(primals):
                raise CustomRuleError(
                    f"defjvps of {name_of(self.fun)} gave {len(jvps)} rules, the call has "
                    f"{len(primals)} arguments; give one, or None, for each"
                )
            out = self(*primals)
            terms = [
                rule(t, out, *primals)
                for rule, t in zip(jvps, tangents, strict=True) if rule is not None
            ]  # fmt: skip
            if not terms:
                return out, trees.tree_map(lambda y: basis.zeros(y.aval.tangent()), out)
            total = terms[0]
            for term in terms[1:]:
                total = trees.tree_map(lambda a, b: basis.add_any(as_value(a), as_value(b)),
                                       total, term)  # fmt: skip
            return out, total

        self.defjvp(jvp)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the function, under its rule where it is transformed."""
        if self.jvp is None:
            name = name_of(self.fun)
            raise CustomRuleError(f"{name} has no forward rule; give one with {name}.defjvp")
        call = CustomCall(self, self._resolve(args, kwargs))
        rule = self.jvp

        def forward(primals: Values, tangents: Values) -> tuple[list[Value], list[Value]]:
            return run_jvp(call, rule, primals, tangents)

        values = call.flatten()
        with entering():
            outs = JVPCall(self.identity, call.fun, forward).rebind(values)
        return trees.unflatten(call.out_tree, outs)


def run_jvp(
    call: CustomCall, rule: Fun, primals: Values, tangents: Values
) -> tuple[list[Value], list[Value]]:
    """Flat outputs and tangents that a forward rule returns, checked."""
    name = call.name
    pair = rule(
        *call.static,
        tuple(trees.unflatten(call.tree, primals)),
        tuple(trees.unflatten(call.tree, tangents)),
    )
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise CustomRuleError(
            f"the jvp rule of {name} must return a pair (output, tangent), got "
            f"{type(pair).__name__}"
        )
    outs, tree = trees.flatten(pair[0])
    tangents, tangent_tree = trees.flatten(pair[1])
    if tree != tangent_tree:
        raise CustomRuleError(
            f"the jvp rule of {name} returned an output {tree} and a tangent {tangent_tree}: the "
            f"trees must be the same"
        )
    values = [as_value(x) for x in outs]
    call.check("jvp", primals, tree, values)
    ts = []
    for y, t in zip(values, map(as_value, tangents), strict=True):
        want = y.aval.tangent()
        if t.shape != want.shape or not (t.dtype == want.dtype or basis.gives_way(t, want.dtype)):
            raise CustomRuleError(
                f"the jvp rule of {name} returned the tangent {t.aval} for an output {y.aval}; it "
                f"must be {want}"
            )
        ts.append(t if t.dtype == want.dtype else basis.convert_element_type(t, want.dtype))
    return values, ts
