"""The primitive `scan`: a loop of known length over a program, with a carry and stacked outputs."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ShapeError
from fgrad.core.ir import Jaxpr, Var
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Pullback, Unknown, Value
from fgrad.core.program import may_compile, run_program
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import (
    Linearized,
    batch_jaxpr,
    dce,
    derived,
    jvp_jaxpr,
    linearize_jaxpr,
    transpose_jaxpr,
)
from fgrad.core.transforms.stage import eval_jaxpr
from fgrad.lax.control.programs import (
    LONG,
    Flags,
    Values,
    carry_fixpoint,
    carry_reached,
    given,
    needed_equations,
    program,
    rearranged,
    run_alone,
    run_inner,
    spread,
    tangent_flags,
    varying,
)

# Operands of scan: constants, initial carry, stacked inputs. Its program maps one step's
# (constants, carry, inputs) to (carry, outputs).


def _abstract(
    *avals: ShapedArray, jaxpr: Jaxpr, length: int, num_consts: int, num_carry: int, **_params: Any
) -> list[ShapedArray]:
    fixed = num_consts + num_carry
    for a, b in zip(avals, jaxpr.in_avals, strict=True):
        per_step = a.update(shape=a.shape[1:]) if fixed <= 0 else a
        fixed -= 1
        if (per_step.shape, per_step.dtype) != (b.shape, b.dtype):
            raise ShapeError(f"scan: an operand is {a}, its program takes {b}")
        if per_step is not a and a.shape[0] != length:
            raise ShapeError(f"scan of length {length}: a stacked input is {a}")
    outs = jaxpr.out_avals
    return [
        *outs[:num_carry],
        *(a.update(shape=(length, *a.shape)) for a in outs[num_carry:]),
    ]


def _eager(xp: Any, *args: Any, **params: Any) -> list[Any]:
    jaxpr, length, num_carry = params["jaxpr"], params["length"], params["num_carry"]
    if length >= LONG and may_compile(xp, jaxpr):
        return run_alone(scan_p, jaxpr, args, params)
    consts, carry, xs = _groups(args, params["num_consts"], num_carry)
    if any(x.shape[0] != length for x in xs):
        raise ValueError("lengths")
    ys = [xp.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]]
    for i in reversed(range(length)) if params["reverse"] else range(length):
        outs = run_program(jaxpr, xp, [*consts, *carry, *[x[i, ...] for x in xs]])
        carry = outs[:num_carry]
        for stacked, y in zip(ys, outs[num_carry:], strict=True):
            stacked[i] = y
    return [*carry, *ys]


# ------------------------------------------------------------------------------------ forward mode


def _groups(items: Sequence[Any], num_consts: int, num_carry: int) -> tuple[Any, Any, Any]:
    fixed = num_consts + num_carry
    return items[:num_consts], items[num_consts:fixed], items[fixed:]


def _jvp(
    primals: Values, tangents: Sequence[Value | None], *, jaxpr: Jaxpr, num_consts: int,
    num_carry: int, **params: Any,
) -> tuple[list[Value], list[Value | None]]:  # fmt: skip
    nz_consts, nz_carry, nz_xs = _groups(tangent_flags(primals, tangents), num_consts, num_carry)
    num_ys = len(jaxpr.outvars) - num_carry
    while True:
        moved, out_nz = jvp_jaxpr(
            jaxpr, (*nz_consts, *nz_carry, *nz_xs), (*nz_carry, *[False] * num_ys)
        )
        grown = tuple(a or b for a, b in zip(nz_carry, out_nz, strict=False))
        if grown == nz_carry:
            break
        nz_carry = grown
    # The program takes all primals, then all tangents; scan wants each group side by side.
    n_c, n_k = num_consts, num_carry
    n_in, t_c, t_k = len(jaxpr.invars), sum(nz_consts), sum(nz_carry)
    start, stop = n_in, len(moved.invars)
    order = [
        *range(n_c), *range(start, start + t_c),
        *range(n_c, n_c + n_k), *range(start + t_c, start + t_c + t_k),
        *range(n_c + n_k, n_in), *range(start + t_c + t_k, stop),
    ]  # fmt: skip
    n_out = len(jaxpr.outvars)
    outs_order = [
        *range(n_k), *range(n_out, n_out + t_k),
        *range(n_k, n_out), *range(n_out + t_k, len(moved.outvars)),
    ]  # fmt: skip
    consts, carry, xs = _groups(primals, n_c, n_k)
    d_consts, d_carry, d_xs = _groups(tangents, n_c, n_k)
    first = [
        basis.instantiate(t, p) for p, t, nz in zip(carry, d_carry, nz_carry, strict=True) if nz
    ]
    results = bind(
        scan_p, *consts, *given(d_consts, nz_consts), *carry, *first, *xs, *given(d_xs, nz_xs),
        jaxpr=rearranged(moved, order, outs_order), num_consts=n_c + t_c, num_carry=n_k + t_k,
        **params,
    )  # fmt: skip
    outs = [*results[:n_k], *results[n_k + t_k : n_k + t_k + num_ys]]
    ts = [*results[n_k : n_k + t_k], *results[n_k + t_k + num_ys :]]
    return outs, spread(ts, (*nz_carry, *out_nz[n_k:]))


# ------------------------------------------------------------------------------------ reverse mode


class _Cut:
    """How reverse mode of a scan runs: what each residual is, and the programs.

    Attributes:
        needed: Which operands are differentiated.
        carry: Which carries are.
        linear: The body, cut in two.
        forward: The body with the stacked residuals as further outputs.
        hoisted: Constants → residuals that are the same in each step.
        kinds: For each residual ('const', i), ('xs', i), ('ys', i), ('hoisted', i) or
            ('stacked', i).
    """

    __slots__ = ("carry", "forward", "hoisted", "kinds", "linear", "needed")

    def __init__(self, jaxpr: Jaxpr, num_consts: int, num_carry: int, needed: Flags) -> None:
        n_consts, n_carry, n_xs = _groups(needed, num_consts, num_carry)
        self.needed = needed
        self.carry = carry_fixpoint(jaxpr, n_consts, n_carry, n_xs, jaxpr.out_avals[:num_carry])
        self.linear = linearize_jaxpr(jaxpr, (*n_consts, *self.carry, *n_xs))
        self._sort_residuals(jaxpr, num_consts, num_carry)

    def _sort_residuals(self, jaxpr: Jaxpr, num_consts: int, num_carry: int) -> None:
        full = self.linear.forward
        n_out = len(jaxpr.outvars)
        kept = full.outvars[n_out:]
        live = varying(full, [i >= num_consts for i in range(len(full.invars))])
        hoisted: list[Any] = []
        stacked: list[Any] = []
        self.kinds: list[tuple[str, int]] = []
        ys = {v: i for i, v in enumerate(full.outvars[num_carry:n_out]) if isinstance(v, Var)}
        for v, position in zip(kept, self.linear.residual_inputs, strict=True):
            if position is not None and position < num_consts:
                self.kinds.append(("const", position))
            elif position is not None and position >= num_consts + num_carry:
                self.kinds.append(("xs", position - num_consts - num_carry))
            elif isinstance(v, Var) and v in ys:
                self.kinds.append(("ys", ys[v]))
            elif isinstance(v, Var) and v in live:
                self.kinds.append(("stacked", len(stacked)))
                stacked.append(v)
            else:
                self.kinds.append(("hoisted", len(hoisted)))
                hoisted.append(v)
        self.forward = dce(Jaxpr(full.invars, (), full.eqns, [*full.outvars[:n_out], *stacked]))
        self.hoisted = Jaxpr(full.invars[:num_consts], (), needed_equations(full, hoisted), hoisted)


def _forward(
    needed: Flags, primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    jaxpr, n_c, n_k = params["jaxpr"], params["num_consts"], params["num_carry"]
    cut: _Cut = derived(
        jaxpr, ("scan cut", n_c, n_k, needed), lambda: _Cut(jaxpr, n_c, n_k, needed)
    )
    results = bind(scan_p, *primals, **{**params, "jaxpr": cut.forward})
    n_out = len(jaxpr.outvars)
    consts, _, xs = _groups(primals, n_c, n_k)
    pools = {
        "const": consts, "xs": xs, "ys": results[n_k:n_out], "stacked": results[n_out:],
        "hoisted": eval_jaxpr(cut.hoisted, (), *consts),
    }  # fmt: skip
    return results[:n_out], (*[pools[kind][i] for kind, i in cut.kinds], cut)


def _backward(
    needed: Flags, residuals: Sequence[Any], cts: Sequence[Value | None], params: dict[str, Any]
) -> list[Value | None]:
    jaxpr, n_c, n_k = params["jaxpr"], params["num_consts"], params["num_carry"]
    *kept, cut = residuals
    linear: Linearized = cut.linear
    n_consts, _, n_xs = _groups(needed, n_c, n_k)
    invariant = [kind in ("const", "hoisted") for kind, _ in cut.kinds]
    y_given = tuple(ct is not None for ct in cts[n_k:])
    carries, ys = jaxpr.out_avals[:n_k], jaxpr.out_avals[n_k:]

    def step(
        same: Values, d_carry: Values, per_step: Values
    ) -> tuple[list[Value], list[Value], list[Value]]:
        n_stacked = len(per_step) - sum(y_given)
        inv, own = iter(same), iter(per_step[:n_stacked])
        values = [next(inv) if i else next(own) for i in invariant]
        all_cts = [*spread(d_carry, cut.carry), *spread(per_step[n_stacked:], y_given)]
        active = [
            basis.zeros(a.tangent()) if ct is None else ct
            for ct, a, on in zip(all_cts, (*carries, *ys), linear.active, strict=True)
            if on
        ]
        back = run_inner(linear.backward, *values, *active)
        a, b = sum(n_consts), sum(n_consts) + sum(cut.carry)
        return back[:a], back[a:b], back[b:]

    first = [
        basis.zeros(a.tangent()) if ct is None else ct
        for ct, a, on in zip(cts, carries, cut.carry, strict=False)
        if on
    ]
    d_consts, d_carry, d_xs = against(
        linear.backward, ("scan", tuple(invariant), y_given), step,
        [a.tangent() for a in given(jaxpr.in_avals[:n_c], n_consts)],
        given(kept, invariant), first,
        [*given(kept, [not i for i in invariant]), *given(cts[n_k:], y_given)], params,
    )  # fmt: skip
    return [*spread(d_consts, n_consts), *spread(d_carry, cut.carry), *spread(d_xs, n_xs)]


def against(
    owner: Jaxpr, key: tuple[Any, ...], step: Callable[..., tuple[list[Value], ...]],
    sums: Sequence[ShapedArray], same: Values, carry: Values, per_step: Values,
    params: dict[str, Any],
) -> tuple[list[Value], list[Value], list[Value]]:  # fmt: skip
    """Run a backward step over a loop, from its end to its start.

    Args:
        owner: The program on which the loop's program is kept.
        key: Tells it from others that are kept there.
        step: ``(same, carry, per_step) -> (terms, carry, outputs)``.
        sums: Types of the terms, which are added up over the steps.
        same: Values that each step sees.
        carry: What the last step gets.
        per_step: Stacked values.
        params: Of the loop that is run backwards: `length`, `reverse`, `unroll`.

    Returns:
        The sums, the carry of the first step, and the stacked outputs.
    """
    n_same, n_sums, n_carry = len(same), len(sums), len(carry)

    def body(*args: Value) -> list[Value]:
        inv = args[:n_same]
        totals = args[n_same : n_same + n_sums]
        own = args[n_same + n_sums : n_same + n_sums + n_carry]
        terms, moved, outs = step(inv, own, args[n_same + n_sums + n_carry :])
        return [*(basis.add_any(s, t) for s, t in zip(totals, terms, strict=True)), *moved, *outs]

    avals = [
        *(x.aval for x in same), *sums, *(x.aval for x in carry),
        *(x.aval.update(shape=x.shape[1:]) for x in per_step),
    ]  # fmt: skip
    results = bind(
        scan_p, *same, *map(basis.zeros, sums), *carry, *per_step,
        jaxpr=program(owner, ("against", *key), body, avals), length=params["length"],
        reverse=not params["reverse"], num_consts=n_same, num_carry=n_sums + n_carry,
        unroll=params["unroll"],
    )  # fmt: skip
    return _groups(results, n_sums, n_carry)


# --------------------------------------------------------------------------- batching, transposing


def _batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *, jaxpr: Jaxpr, num_consts: int,
    num_carry: int, **params: Any,
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    mapped = tuple(d is not None for d in dims)
    m_consts, m_carry, m_xs = _groups(mapped, num_consts, num_carry)
    num_ys = len(jaxpr.outvars) - num_carry
    while True:
        moved, out_mapped = batch_jaxpr(
            jaxpr, axis, (*m_consts, *m_carry, *m_xs), (*m_carry, *[False] * num_ys)
        )
        grown = tuple(out_mapped[:num_carry])
        if grown == m_carry:
            break
        m_carry = grown
    fixed = num_consts + num_carry
    values = []
    for i, (x, d, m) in enumerate(zip(args, dims, (*m_consts, *m_carry, *m_xs), strict=True)):
        if i >= fixed:
            values.append(x if d is None else basis.moveaxis(x, d, 1))
        else:
            values.append(basis.lead(x, d, axis.size) if m else x)
    outs = bind(scan_p, *values, jaxpr=moved, num_consts=num_consts, num_carry=num_carry, **params)
    places = [0] * num_carry + [1] * num_ys
    return outs, [p if m else None for p, m in zip(places, out_mapped, strict=True)]


def _transpose(
    cts: Sequence[Value | None], *args: Any, jaxpr: Jaxpr, num_consts: int, num_carry: int,
    **params: Any,
) -> list[Value | None]:  # fmt: skip
    linear = tuple(isinstance(a, Unknown) for a in args)
    l_consts, l_init, l_xs = _groups(linear, num_consts, num_carry)
    out_avals = jaxpr.out_avals
    l_carry = carry_reached(jaxpr, l_consts, l_init, l_xs)[:num_carry]
    flags = (*l_consts, *l_carry, *l_xs)
    known = [not f for f in flags]
    k_consts, k_carry, k_xs = _groups(known, num_consts, num_carry)
    consts, init, xs = _groups(args, num_consts, num_carry)
    tracks = _known_carries(jaxpr, known, given(consts, k_consts), given(init, k_carry),
                            given(xs, k_xs), num_consts, num_carry, params)  # fmt: skip

    picked = [i for i, on in enumerate(l_carry) if on]
    y_given = [i for i, ct in enumerate(cts[num_carry:], num_carry) if ct is not None]
    pulled = transpose_jaxpr(
        rearranged(jaxpr, range(len(jaxpr.invars)), [*picked, *y_given]), flags
    )
    n_kx = len(tracks) + sum(k_xs)

    def step(same: Values, d_carry: Values, per_step: Values) -> tuple[Any, Any, Any]:
        back = run_inner(pulled, *same, *per_step[:n_kx], *d_carry, *per_step[n_kx:])
        a, b = sum(l_consts), sum(l_consts) + sum(l_carry)
        return back[:a], back[a:b], back[b:]

    d_consts, d_carry, d_xs = against(
        pulled, ("transpose", tuple(flags)), step,
        [a.aval.tangent() for a in given(consts, l_consts)],
        given(consts, k_consts),
        [basis.zeros(out_avals[i].tangent()) if cts[i] is None else cts[i] for i in picked],
        [*tracks, *given(xs, k_xs), *(cts[i] for i in y_given)], params,
    )  # fmt: skip
    into_init = [
        ct if unknown else None
        for ct, unknown in zip(spread(d_carry, l_carry), l_init, strict=True)
    ]
    return [*spread(d_consts, l_consts), *into_init, *spread(d_xs, l_xs)]


def _known_carries(
    jaxpr: Jaxpr, known: Sequence[bool], consts: Values, init: Values, xs: Values,
    num_consts: int, num_carry: int, params: dict[str, Any],
) -> list[Value]:  # fmt: skip
    """The values that each step sees of the carries that depend on no linear operand."""
    if not init:
        return []
    n_c, n_k = len(consts), len(init)

    def run(*args: Value) -> list[Value]:
        # What is known depends on nothing else: any value will do for the others.
        own = iter(args)
        full = [
            next(own) if k else basis.zeros(a) for a, k in zip(jaxpr.in_avals, known, strict=True)
        ]
        outs = given(run_inner(jaxpr, *full)[:num_carry], known[num_consts:][:num_carry])
        return [*outs, *args[n_c : n_c + n_k]]

    tracked = program(jaxpr, ("tracks", n_c, tuple(known)), run, given(jaxpr.in_avals, known))
    results = bind(
        scan_p, *consts, *init, *xs, jaxpr=tracked, num_consts=n_c, num_carry=n_k, **params
    )
    return list(results[n_k:])


def _reach(
    flags: Sequence[bool], *, jaxpr: Jaxpr, num_consts: int, num_carry: int, **_params: Any
) -> Sequence[bool]:
    consts, carry, xs = _groups(tuple(flags), num_consts, num_carry)
    return carry_reached(jaxpr, consts, carry, xs)


scan_p = Primitive(
    "scan",
    "A loop of known length: a carry goes through its program, outputs are stacked.",
    abstract=_abstract,
    eager=_eager,
    jvp=_jvp,
    transpose=_transpose,
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    reach=_reach,
    lower=Lowering("loop", "jaxpr"),
    linear="jointly",
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
