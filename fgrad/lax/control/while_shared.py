"""Loops made from a while loop: over tangents, and over a batch."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, NonlinearPullbackError, ShapeError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import MappedAxis, Value
from fgrad.core.transforms.jaxprs import (
    batch_jaxpr,
    jvp_jaxpr,
    reachable,
    transpose_jaxpr,
)
from fgrad.lax.control.lanes import active_only, any_lane, choose
from fgrad.lax.control.programs import (
    Flags,
    Values,
    carry_reached,
    given,
    program,
    rearranged,
    run_inner,
    with_unused,
    without_debug,
)

# Operands of while: constants of the condition, constants of the body, the first carry.


def check_operands(
    avals: Sequence[ShapedArray], cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int
) -> None:
    """Raise unless operands and programs of a loop fit each other."""
    own = avals[num_cond:]
    for a, b in zip(own, body.in_avals, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ShapeError(f"while: an operand is {a}, its body takes {b}")
    for a, b in zip(body.in_avals[num_body:], body.out_avals, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ShapeError(f"while: the body maps a carry {a} to {b}")
    (goes,) = cond.out_avals
    if goes.shape != () or goes.dtype.kind != "b":
        raise DtypeError(f"while: the condition must be a scalar bool, got {goes}")


def groups(items: Sequence[Any], num_cond: int, num_body: int) -> tuple[Any, Any, Any]:
    """Entries for constants of the condition, for constants of the body, and for carries."""
    return items[:num_cond], items[num_cond : num_cond + num_body], items[num_cond + num_body :]


def depends(
    flags: Sequence[bool], *, cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int
) -> tuple[Flags, bool]:
    """Which carries depend on flagged operands; whether the number of steps does, hence all."""
    in_cond, consts, carry = groups(tuple(flags), num_cond, num_body)
    reached = carry_reached(body, consts, carry, ())
    if reachable(cond, (*in_cond, *reached))[0]:
        return (True,) * len(reached), True
    return reached, False


def reach(flags: Sequence[bool], **params: Any) -> Flags:
    """Which carries depend on flagged operands."""
    return depends(flags, **params)[0]


def check_linear(flags: Sequence[bool], **params: Any) -> None:
    """Raise unless the loop is linear in the flagged operands."""
    reached, steps = depends(flags, **params)
    if steps:
        raise NonlinearPullbackError(
            "the number of steps of this while_loop depends on a tangent or cotangent, in which a "
            "rule must be linear; let the condition depend on other values only"
        )
    body = params["body"]
    _, consts, _ = groups(tuple(flags), params["num_cond"], params["num_body"])
    wanted = [i for i, on in enumerate(reached) if on]
    transpose_jaxpr(rearranged(body, range(len(body.invars)), wanted), (*consts, *reached))


class Moved:
    """The loop over the jvp of a body: its carry is the carry, then the tangents that move.

    Attributes:
        cond: The condition, which ignores tangents.
        body: The body of carries and tangents.
        consts: Which constants of the body have a tangent.
        carry: Which carries have one.
    """

    __slots__ = ("body", "carry", "cond", "consts")

    def __init__(
        self, cond: Jaxpr, body: Jaxpr, num_cond: int, consts: Flags, carry: Flags
    ) -> None:
        while True:
            moved, out = jvp_jaxpr(body, (*consts, *carry), carry)
            if out == carry:
                break
            carry = tuple(a or b for a, b in zip(carry, out, strict=True))
        n_b, n_k = len(consts), len(carry)
        n_in, t_b = n_b + n_k, sum(consts)
        order = [*range(n_b), *range(n_in, n_in + t_b), *range(n_b, n_in),
                 *range(n_in + t_b, len(moved.invars))]  # fmt: skip
        self.body = rearranged(moved, order, range(len(moved.outvars)))
        self.cond = with_unused(cond, given([a.tangent() for a in cond.in_avals[num_cond:]], carry))
        self.consts = consts
        self.carry = carry

    def params(self, num_cond: int) -> dict[str, Any]:
        """Parameters of the loop."""
        return {
            "cond": self.cond, "body": self.body, "num_cond": num_cond,
            "num_body": len(self.consts) + sum(self.consts),
        }  # fmt: skip

    def operands(
        self, cond_consts: Values, consts: Values, carry: Values,
        d_consts: Sequence[Value | None], d_carry: Sequence[Value | None],
    ) -> list[Value]:  # fmt: skip
        """Operands of the loop; tangents of carries that have none yet are zero."""
        first = [
            basis.instantiate(t, p)
            for t, p, on in zip(d_carry, carry, self.carry, strict=True)
            if on
        ]
        return [*cond_consts, *consts, *given(d_consts, self.consts), *carry, *first]


class Batched:
    """The loop over a batch. Lanes whose condition is False keep their carry until all stop.

    Attributes:
        cond: Whether any lane goes on.
        body: One step of the lanes that go on.
        num_body: Its constants: those of the condition come first where it is masked.
        masked: Whether the condition differs among lanes.
        mapped: Which operands carry the batch, along axis 0.
        carry: Which carries do.
    """

    __slots__ = ("body", "carry", "cond", "mapped", "masked", "num_body")

    def __init__(
        self, axis: MappedAxis, cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int,
        mapped: Flags,
    ) -> None:  # fmt: skip
        m_cond, m_body, m_carry = groups(mapped, num_cond, num_body)
        while True:
            moved, m_out = batch_jaxpr(body, axis, (*m_body, *m_carry), m_carry)
            test, (self.masked,) = batch_jaxpr(cond, axis, (*m_cond, *m_carry))
            grown = tuple(m_out) if not self.masked else (True,) * len(m_carry)
            if grown == m_carry:
                break
            m_carry = grown
        self.mapped = (*m_cond, *m_body, *m_carry)
        self.carry = m_carry
        self.cond, self.body, self.num_body = test, moved, num_body
        if self.masked:
            self.num_body = num_cond + num_body
            self._mask(test, moved, num_cond, m_body)

    def _mask(self, test: Jaxpr, moved: Jaxpr, num_cond: int, m_body: Flags) -> None:
        n_b = len(m_body)

        def goes_on(*args: Value) -> list[Value]:
            return [any_lane(run_inner(test, *args)[0])]

        def step(*args: Value) -> list[Value]:
            (mask,) = run_inner(test, *args[:num_cond], *args[num_cond + n_b :])
            consts, carry = args[num_cond : num_cond + n_b], args[num_cond + n_b :]
            seen = [active_only(mask, x) if m else x for x, m in zip(consts, m_body, strict=True)]
            new = run_inner(moved, *seen, *[active_only(mask, x) for x in carry])
            return [choose(mask, y, x) for x, y in zip(carry, new, strict=True)]

        self.cond = program(test, ("any lane",), goes_on, test.in_avals)
        avals = [*test.in_avals[:num_cond], *moved.in_avals]
        self.body = program(moved, ("masked step", test, num_cond), step, avals)

    def operands(self, axis: MappedAxis, args: Values, dims: Sequence[int | None]) -> list[Value]:
        """The operands with the batch along axis 0 where it is needed."""
        return [
            basis.lead(x, d, axis.size) if m else x
            for x, d, m in zip(args, dims, self.mapped, strict=True)
        ]

    def call(self, operands: Values, num_cond: int) -> tuple[list[Value], dict[str, Any]]:
        """Operands and parameters of the loop; the masked body needs the condition's constants."""
        params = {
            "cond": self.cond, "body": self.body, "num_cond": num_cond, "num_body": self.num_body
        }  # fmt: skip
        if not self.masked:
            return list(operands), params
        return [*operands[:num_cond], *operands], params


def flags_of(dims: Sequence[int | None]) -> Flags:
    """Which operands are mapped."""
    return tuple(d is not None for d in dims)


def quiet(params: dict[str, Any]) -> dict[str, Any]:
    """A loop that was run before and prints nothing again."""
    return {**params, **{k: without_debug(params[k]) for k in ("cond", "body")}}
