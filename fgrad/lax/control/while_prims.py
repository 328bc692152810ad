"""The primitives of while loops: `while`, and the pair that its reverse mode runs.

`while_saved` runs the loop and keeps K carries on the way: those at every s-th step, where s
doubles, and every second one is dropped, each time that all places are taken. `while_pull` goes
back over the loop: it replays the steps between two kept carries, keeps K carries of that segment,
and so on until a segment is one step, which it differentiates. Memory is K carries a level, and the
number of levels is log n to the base K.

`while_pull` is a function of the loop's constants, its first carry and the cotangent: the kept
carries save work, but they are determined by the others, so no derivative belongs to them. With
f the loop and J its Jacobian, the pullback is P(x, c) = Jᵀ(x)·c. Both of its derivatives are those
of the loop F(x, v) = (f(x), J(x)·v), which is the loop over the jvp of the body:

* forward, in the direction (v, w): Jᵀ·w + ∂ₓ⟨J·v, c⟩ is the pullback of F at (x, v) for the
  cotangent (w, c), in x; in v it is P itself.
* reverse, for the cotangent v: in c it is J·v, the second half of F; in x it is ∂ₓ⟨J·v, c⟩, the
  pullback of F at (x, v) for the cotangent (0, c).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import NonlinearPullbackError, RuleError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Pullback, Unknown, Value
from fgrad.core.program import may_compile, run_program
from fgrad.core.tracing import bind
from fgrad.lax.control.programs import (
    LONG,
    Flags,
    Values,
    given,
    run_alone,
    spread,
    tangent_flags,
)
from fgrad.lax.control.while_shared import (
    Batched,
    Moved,
    check_linear,
    check_operands,
    depends,
    flags_of,
    groups,
    quiet,
    reach,
)
from fgrad.lax.control.while_walk import (
    KEPT,
    pull_abstract,
    pull_eager,
    saved_eager,
    steps_of_all_p,
)


def _abstract(
    *avals: ShapedArray, cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int
) -> list[ShapedArray]:
    check_operands(avals, cond, body, num_cond, num_body)
    return body.out_avals


def _eager(xp: Any, *args: Any, cond: Jaxpr, body: Jaxpr, **sizes: int) -> list[Any]:
    cond_consts, consts, carry = groups(args, **sizes)
    steps = 0
    while bool(run_program(cond, xp, [*cond_consts, *carry])[0]):
        if steps == LONG and may_compile(xp, cond) and may_compile(xp, body):
            operands = [*cond_consts, *consts, *carry]
            return run_alone(while_p, body, operands, {"cond": cond, "body": body, **sizes})
        carry = run_program(body, xp, [*consts, *carry])
        steps += 1
    return list(carry)


# ------------------------------------------------------------------------------------ forward mode


def _jvp(
    primals: Values, tangents: Sequence[Value | None], *, cond: Jaxpr, body: Jaxpr, num_cond: int,
    num_body: int,
) -> tuple[list[Value], list[Value | None]]:  # fmt: skip
    cond_consts, consts, carry = groups(primals, num_cond, num_body)
    _, d_consts, d_carry = groups(tangents, num_cond, num_body)
    _, nz_consts, nz_carry = groups(tangent_flags(primals, tangents), num_cond, num_body)
    moved = Moved(cond, body, num_cond, nz_consts, nz_carry)
    outs = bind(
        while_p, *moved.operands(cond_consts, consts, carry, d_consts, d_carry),
        **moved.params(num_cond),
    )  # fmt: skip
    n = len(carry)
    return outs[:n], spread(outs[n:], moved.carry)


# ---------------------------------------------------------------------------------------- batching


def _batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *, cond: Jaxpr, body: Jaxpr,
    num_cond: int, num_body: int,
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    loop = Batched(axis, cond, body, num_cond, num_body, flags_of(dims))
    operands, params = loop.call(loop.operands(axis, args, dims), num_cond)
    return bind(while_p, *operands, **params), [0 if m else None for m in loop.carry]


# ------------------------------------------------------------------------------------ reverse mode


def _forward(
    _needed: Flags, primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    if "io" in params["body"].effects | params["cond"].effects:
        raise RuleError(
            "reverse mode of while_loop runs steps again, which would repeat the io_callback in "
            "its body; use max_steps=, or scan, whose reverse mode keeps what each step needs"
        )
    n = len(params["body"].outvars)
    outs = bind(while_saved_p, *primals, **params)
    return outs[:n], (*primals, *outs[n:])


def _backward(
    needed: Flags, residuals: Sequence[Any], cts: Sequence[Value | None], params: dict[str, Any]
) -> list[Value | None]:
    n_k = len(cts)
    n_in = params["num_cond"] + params["num_body"] + n_k
    primals, kept = residuals[:n_in], residuals[n_in:]
    present = tuple(ct is not None for ct in cts)
    back = bind(
        while_pull_p, *primals, *kept, *given(cts, present), **params, needed=needed,
        present=present,
    )  # fmt: skip
    return spread(back, needed)


def _transpose(cts: Sequence[Value | None], *args: Any, **params: Any) -> list[Value | None]:
    """In operands in which the body is linear, the transpose is the pullback at any of them."""
    flags = tuple(isinstance(a, Unknown) for a in args)
    check_linear(flags, **params)
    primals = [basis.zeros(a.aval) if u else a for a, u in zip(args, flags, strict=True)]
    _, residuals = _forward(flags, primals, quiet(params))
    return _backward(flags, residuals, cts, quiet(params))


def _saved_transpose(cts: Sequence[Value | None], *args: Any, **params: Any) -> list[Value | None]:
    return _transpose(cts[: len(params["body"].outvars)], *args, **params)


def _saved_reach(flags: Sequence[bool], **params: Any) -> Sequence[bool]:
    carry, steps = depends(flags, **params)
    return [*carry, *carry, steps]


def _saved_abstract(
    *avals: ShapedArray, cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int
) -> list[ShapedArray]:
    check_operands(avals, cond, body, num_cond, num_body)
    stacks = [a.update(shape=(KEPT, *a.shape)) for a in body.out_avals]
    return [*body.out_avals, *stacks, ShapedArray((), np.dtype(np.int64))]


def _saved_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[list[Value], list[Value | None]]:
    num_cond, num_body = params["num_cond"], params["num_body"]
    _, nz_consts, nz_carry = groups(tangent_flags(primals, tangents), num_cond, num_body)
    moved = Moved(params["cond"], params["body"], num_cond, nz_consts, nz_carry)
    operands = moved.operands(
        *groups(primals, num_cond, num_body), *groups(tangents, num_cond, num_body)[1:]
    )
    outs = bind(while_saved_p, *operands, **moved.params(num_cond))
    n, n_t = len(nz_carry), sum(moved.carry)
    stacks = outs[n + n_t : 2 * n + n_t]
    # What is kept is determined by the operands: no derivative belongs to it.
    return [*outs[:n], *stacks, outs[-1]], [
        *spread(outs[n : n + n_t], moved.carry), *[None] * (n + 1)
    ]  # fmt: skip


def _saved_batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *, cond: Jaxpr, body: Jaxpr,
    num_cond: int, num_body: int,
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    loop = Batched(axis, cond, body, num_cond, num_body, flags_of(dims))
    operands, params = loop.call(loop.operands(axis, args, dims), num_cond)
    outs = bind(while_saved_p, *operands, **params)
    places = [0 if m else None for m in loop.carry]
    return outs, [*places, *(1 if m else None for m in loop.carry), None]


def _pull_split(args: Sequence[Any], params: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
    """Constants of the condition and of the body, the first carry, what is kept, cotangents."""
    n_k = len(params["present"])
    n_in = params["num_cond"] + params["num_body"] + n_k
    head = groups(args[:n_in], params["num_cond"], params["num_body"])
    return (*head, args[n_in : n_in + n_k + 1], args[n_in + n_k + 1 :])


def _loop_params(params: dict[str, Any]) -> dict[str, Any]:
    return {k: params[k] for k in ("cond", "body", "num_cond", "num_body")}


def _second(
    moved: Moved, operands: Values, needed: Flags, head: Sequence[Value | None],
    tail: Sequence[Value | None], num_cond: int,
) -> list[Value]:  # fmt: skip
    """The pullback of the loop over carries and tangents.

    Args:
        moved: That loop.
        operands: Its operands.
        needed: Which of them are differentiated.
        head: Cotangent of each carry.
        tail: Cotangent of each tangent.
        num_cond: Constants of the condition.
    """
    cts = [*head, *tail]
    present = tuple(ct is not None for ct in cts)
    params = quiet(moved.params(num_cond))
    saved = bind(while_saved_p, *operands, **params)
    return bind(  # type: ignore[no-any-return]
        while_pull_p, *operands, *saved[len(cts) :], *given(cts, present), **params,
        needed=needed, present=present,
    )  # fmt: skip


def _pull_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[list[Value], list[Value | None]]:
    needed, present, num_cond = params["needed"], params["present"], params["num_cond"]
    cond_consts, consts, carry, _, cts = _pull_split(primals, params)
    _, d_consts, d_carry, _, d_cts = _pull_split(tangents, params)
    flags = tangent_flags(primals, tangents)
    _, nz_consts, nz_carry, _, nz_cts = _pull_split(flags, params)
    out = bind(while_pull_p, *primals, **params)
    along: list[Value | None] = [None] * len(out)
    if any(nz_cts):
        # Linear in the cotangent: the same pullback of its tangent.
        linear = [basis.instantiate(t, c) for t, c in zip(d_cts, cts, strict=True)]
        along = list(bind(while_pull_p, *primals[: len(primals) - len(cts)], *linear, **params))
    if any((*nz_consts, *nz_carry)):
        moved = Moved(params["cond"], params["body"], num_cond, nz_consts, nz_carry)
        operands = moved.operands(cond_consts, consts, carry, d_consts, d_carry)
        n_cond, n_consts, n_carry = groups(needed, num_cond, params["num_body"])
        wanted = (
            *n_cond, *n_consts, *[False] * sum(nz_consts), *n_carry, *[False] * sum(moved.carry)
        )  # fmt: skip
        tail = given(spread(cts, present), moved.carry)
        if any(ct is not None for ct in tail):
            more = _second(moved, operands, wanted, [None] * len(carry), tail, num_cond)
            along = [basis.add_tangents(a, b) for a, b in zip(along, more, strict=True)]
    return out, along


def _pull_forward(
    _needed: Flags, primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    return bind(while_pull_p, *primals, **params), tuple(primals)


def _pull_backward(
    needed: Flags, residuals: Sequence[Any], back: Sequence[Value | None], params: dict[str, Any]
) -> list[Value | None]:
    num_cond, num_body, present = params["num_cond"], params["num_body"], params["present"]
    cond_consts, consts, carry, kept, cts = _pull_split(residuals, params)
    _, d_consts, d_carry = groups(spread(back, params["needed"]), num_cond, num_body)
    _, n_consts, n_carry, _, n_cts = _pull_split(needed, params)
    moved = Moved(
        params["cond"], params["body"], num_cond,
        tuple(t is not None for t in d_consts), tuple(t is not None for t in d_carry),
    )  # fmt: skip
    operands = moved.operands(cond_consts, consts, carry, d_consts, d_carry)
    into: list[Value | None] = [None] * (num_cond + num_body + len(carry))
    tail = given(spread(cts, present), moved.carry)
    if any((*n_consts, *n_carry)) and any(ct is not None for ct in tail):
        wanted = (
            *[False] * num_cond, *n_consts, *[False] * sum(moved.consts),
            *n_carry, *[False] * sum(moved.carry),
        )  # fmt: skip
        first = _second(moved, operands, wanted, [None] * len(carry), tail, num_cond)
        into = [*[None] * num_cond, *spread(first, (*n_consts, *n_carry))]
    into_cts: list[Value | None] = [None] * len(cts)
    if any(n_cts):
        outs = bind(while_p, *operands, **quiet(moved.params(num_cond)))
        pushed = spread(outs[len(carry) :], moved.carry)
        into_cts = given(pushed, present)
    return [*into, *[None] * len(kept), *into_cts]


def _pull_transpose(back: Sequence[Value | None], *args: Any, **params: Any) -> list[Value | None]:
    flags = tuple(isinstance(a, Unknown) for a in args)
    if any(flags[: len(args) - sum(params["present"])]):
        raise NonlinearPullbackError(
            "the pullback of a while_loop is not linear in the values of the loop; a rule may "
            "only be linear in tangents and cotangents"
        )
    return _pull_backward(flags, args, back, params)


def _pull_batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], **params: Any
) -> tuple[list[Value], list[int | None]]:
    needed, present, num_cond = params["needed"], params["present"], params["num_cond"]
    n_in = num_cond + params["num_body"] + len(present)
    kept, kept_dims = args[n_in : n_in + len(present)], dims[n_in : n_in + len(present)]
    steps, steps_dim = args[n_in + len(present)], dims[n_in + len(present)]
    if steps_dim is not None:
        steps = bind(steps_of_all_p, steps)
    # Every lane has a cotangent of its own, hence one for each operand.
    mapped = tuple(d is not None or n for d, n in zip(dims, needed, strict=False))
    loop = Batched(axis, **_loop_params(params), mapped=mapped)
    operands, own = loop.call(loop.operands(axis, args[:n_in], dims[:n_in]), num_cond)
    stacks = [
        (x if d == 1 else basis.moveaxis(basis.lead(x, d, axis.size), 0, 1)) if m else x
        for x, d, m in zip(kept, kept_dims, loop.carry, strict=True)
    ]
    cts = [
        basis.lead(x, d, axis.size) if m else x
        for x, d, m in zip(
            args[n_in + len(present) + 1 :], dims[n_in + len(present) + 1 :],
            given(loop.carry, present), strict=True,
        )
    ]  # fmt: skip
    wanted = (*[False] * num_cond, *needed) if loop.masked else needed
    outs = bind(
        while_pull_p, *operands, *stacks, steps, *cts, **own, needed=wanted, present=present
    )  # fmt: skip
    return outs, [0] * len(outs)


while_p = Primitive(
    "while",
    "A loop over a program for as long as another one says so.",
    abstract=_abstract,
    eager=_eager,
    jvp=_jvp,
    transpose=_transpose,
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    reach=reach,
    lower=Lowering("loop", "body"),
    linear="jointly",
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)

while_saved_p: Primitive = Primitive(
    "while_saved",
    "The loop, with carries kept along it and its number of steps.",
    abstract=_saved_abstract,
    eager=lambda xp, *args, **params: saved_eager(while_saved_p, xp, *args, **params),
    jvp=_saved_jvp,
    transpose=_saved_transpose,
    vjp=Pullback(
        lambda _needed, primals, params: (
            (outs := bind(while_saved_p, *primals, **params)),
            (*primals, *outs[len(params["body"].outvars) :]),
        ),
        lambda needed, residuals, cts, params: _backward(
            needed, residuals, cts[: len(params["body"].outvars)], params
        ),
    ),
    batch=_saved_batch,
    reach=_saved_reach,
    lower=Lowering("loop", "body"),
    linear="jointly",
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)

while_pull_p = Primitive(
    "while_pull",
    "The pullback of a loop, from the carries kept along it.",
    abstract=pull_abstract,
    eager=pull_eager,
    jvp=_pull_jvp,
    transpose=_pull_transpose,
    vjp=Pullback(_pull_forward, _pull_backward),
    batch=_pull_batch,
    lower=Lowering("loop", "body"),
    linear="jointly",
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
