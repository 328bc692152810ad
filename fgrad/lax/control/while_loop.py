"""`while_loop`, and the primitive `while`: a loop whose length depends on its values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError, TreeError
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.flat import name_of
from fgrad.lax.control.checks import concrete, function, scalar_of, static_integer
from fgrad.lax.control.cond import cond_p
from fgrad.lax.control.programs import (
    Staged,
    check_like,
    program,
    promoted,
    run_inner,
    stage_body,
    strengthened,
)
from fgrad.lax.control.scan import scan_p
from fgrad.lax.control.while_prims import while_p

Fun = Callable[..., Any]


def while_loop(cond_fun: Fun, body_fun: Fun, init_val: Any, *, max_steps: int | None = None) -> Any:
    """``while cond_fun(val): val = body_fun(val)``.

    Reverse mode keeps 64 values along the loop and computes those between them again, so that its
    memory does not grow with the number of steps.

    Args:
        cond_fun: Takes the value; returns a scalar bool.
        body_fun: Takes the value; returns one of the same tree, shapes and dtypes.
        init_val: The first value: arrays or trees of arrays.
        max_steps: Stop after that many steps at the latest. The loop is then a masked `scan`, whose
            reverse mode keeps what each step needs.

    Returns:
        The last value.

    Raises:
        ShapeError: The condition is no scalar, or shapes of the value change.
        DtypeError: The condition is no bool, or dtypes of the value change.
        TreeError: The structure of the value changes.

    Source:
        Griewank and Walther, *Algorithm 799: revolve*, ACM TOMS 26(1), 2000, for checkpoints;
        Stumm and Walther, *New algorithms for optimal online checkpointing*, SIAM J. Sci. Comput.
        32(2), 2010, for loops of unknown length.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.while_loop(lambda x: x < 10.0, lambda x: x * 2.0, np.float32(1))
        Array(16., dtype=float32)
    """
    function(cond_fun, "while_loop: cond_fun")
    function(body_fun, "while_loop: body_fun")
    if max_steps is not None:
        max_steps = _steps(max_steps)
    if config.disable_jit:
        init_val, max_steps, ended = _unstaged(cond_fun, body_fun, init_val, max_steps)
        if ended:
            return init_val
    leaves, tree = trees.flatten(init_val)
    carry = [as_value(x) for x in leaves]
    with entering():
        carry, cond, body = _stage(cond_fun, body_fun, tree, carry)
        if max_steps is not None:
            outs = _masked_scan(cond, body, carry, max_steps)
        else:
            outs = bind(
                while_p, *cond.consts, *body.consts, *carry, cond=cond.jaxpr, body=body.jaxpr,
                num_cond=len(cond.consts), num_body=len(body.consts),
            )  # fmt: skip
    return trees.unflatten(tree, outs)


def _steps(max_steps: Any) -> int:
    steps = static_integer(max_steps, "max_steps")
    if steps < 0:
        raise ArgumentError(f"while_loop: max_steps must not be negative, got {steps}")
    return steps


def _unstaged(
    cond_fun: Fun, body_fun: Fun, value: Any, max_steps: int | None
) -> tuple[Any, int | None, bool]:
    """The loop in Python, for `disable_jit`, while its condition is known.

    Returns:
        The value, how many steps are left at most, and whether the loop has ended.
    """
    value = trees.tree_map(as_value, value)
    while max_steps != 0:
        goes = scalar_of(
            cond_fun(value), f"the condition of while_loop, {name_of(cond_fun)},", "b", "bool"
        )
        known = concrete(goes)
        if known is None:
            return value, max_steps, False
        if not known:
            break
        value = trees.tree_map(as_value, body_fun(value))
        max_steps = None if max_steps is None else max_steps - 1
    return value, max_steps, True


def _stage(
    cond_fun: Fun, body_fun: Fun, tree: Any, carry: list[Value]
) -> tuple[list[Value], Staged, Staged]:
    """Both programs, with weakly typed carries promoted to the types that come back."""
    one = trees.structure((trees.unflatten(tree, range(tree.num_leaves)),))
    while True:
        avals = [c.aval for c in carry]

        def fit(outs: list[Value], avals: Any = avals) -> list[Value]:
            return strengthened(outs, avals) if len(outs) == len(avals) else outs

        body = stage_body(body_fun, one, avals, f"while_loop of {name_of(body_fun)}", fit)
        got = body.out_avals
        more = promoted(carry, got) if len(got) == len(carry) else None
        if more is None:
            break
        carry = more
    check_like(
        f"the value that {name_of(body_fun)}, the body of while_loop, returns: the value it gets",
        tree, avals, body.out_tree, got, "start with a value of the type returned",
    )  # fmt: skip
    cond = stage_body(cond_fun, one, avals, f"while_loop's condition {name_of(cond_fun)}")
    _check_condition(cond_fun, cond)
    return carry, cond, body


def _check_condition(cond_fun: Fun, cond: Staged) -> None:
    if not cond.out_tree.is_leaf():
        raise TreeError(
            f"the condition of while_loop, {name_of(cond_fun)}, must return one scalar bool, got "
            f"{cond.out_tree}"
        )
    aval = cond.out_avals[0]
    if aval.shape != ():
        raise ShapeError(
            f"the condition of while_loop, {name_of(cond_fun)}, must return a scalar bool, got "
            f"{aval}; reduce it with any or all"
        )
    if aval.dtype.kind != "b":
        raise DtypeError(
            f"the condition of while_loop, {name_of(cond_fun)}, must return a scalar bool, got "
            f"{aval}; compare it, as in x != 0"
        )


def _masked_scan(cond: Staged, body: Staged, carry: Sequence[Value], steps: int) -> list[Value]:
    """At most `steps` steps: each one is the body while the condition holds, then nothing."""
    n_cond, n_body, n = len(cond.consts), len(body.consts), len(carry)
    avals = [c.aval for c in carry]
    stay = _identity(body.jaxpr, n_body, avals)

    def step(*args: Value) -> list[Value]:
        value = args[n_cond + n_body :]
        (goes,) = run_inner(cond.jaxpr, *args[:n_cond], *value)
        index = basis.convert_element_type(goes, np.int32)
        own = args[n_cond : n_cond + n_body]
        return bind(cond_p, index, *own, *value, branches=(stay, body.jaxpr))  # type: ignore[no-any-return]

    inner = program(
        body.jaxpr, ("masked", cond.jaxpr, n_cond),
        step, [*cond.jaxpr.in_avals[:n_cond], *body.jaxpr.in_avals],
    )  # fmt: skip
    return bind(  # type: ignore[no-any-return]
        scan_p, *cond.consts, *body.consts, *carry, jaxpr=inner, length=steps, reverse=False,
        num_consts=n_cond + n_body, num_carry=n, unroll=1,
    )  # fmt: skip


def _identity(body: Jaxpr, num_body: int, avals: Sequence[ShapedArray]) -> Jaxpr:
    """The program of the body's type that returns its carry."""
    types = [*body.in_avals[:num_body], *avals]
    return program(body, ("identity", num_body), lambda *args: list(args[num_body:]), types)
