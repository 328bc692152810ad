"""The laws of derivatives: one small function a law, for any flat function.

Each takes the function `f` (values to a list of values, all inexact), where it is examined, and
raises AssertionError where the law does not hold. Numbers refer to docs/guide/tests.md.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.primitive import Absent, Primitive, Unknown
from fgrad.core.tracing import bind
from fgrad.core.transforms.linear import linear_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.testing.functions import (
    Array,
    Flat,
    arrays_of,
    at,
    basis_like,
    evaluate,
    inexact_only,
    linearized,
    on_arrays,
    pairing,
    pullback,
    pushforward,
    random_like,
    values,
)
from fgrad.testing.oracle import (
    assert_close,
    assert_derivative,
    assert_identical,
    assert_near,
    epsilon,
    noise,
)

Arrays = Sequence[Array]
Rng = np.random.Generator


def law_jvp(f: Flat, xs: Arrays, vs: Arrays) -> None:
    """2: the jvp is the derivative that 5-point differences give."""
    actual = evaluate(pushforward(f, len(xs)), (*xs, *vs))
    assert_derivative(actual, on_arrays(f), xs, vs, "jvp = differences")


def law_jvp_basis(f: Flat, xs: Arrays, rng: Rng) -> None:
    """2: the same along a basis vector, where one wrong element shows."""
    law_jvp(f, xs, basis_like(rng, xs))


def law_vjp(f: Flat, xs: Arrays, vs: Arrays, cts: Arrays) -> None:
    """2: ⟨Jᵀ·ct, v⟩ is the derivative of ⟨ct, f⟩ along v that 5-point differences give."""
    pulled = evaluate(pullback(f, len(xs)), (*xs, *cts))

    def weighted(*points: Array) -> list[Array]:
        return [np.asarray(pairing(cts, evaluate(f, points))[0])]

    assert_derivative([np.asarray(pairing(pulled, vs)[0])], weighted, xs, vs, "vjp = differences")


def law_adjoint(f: Flat, xs: Arrays, vs: Arrays, cts: Arrays, *, derived: bool = False) -> None:
    """3: ⟨ct, J·v⟩ = ⟨Jᵀ·ct, v⟩ to 1e-12 of Σ|terms|."""
    n, m = len(xs), len(xs) + len(vs)

    def sides(*args: Array) -> tuple[Pairing, Pairing]:
        pushed = evaluate(pushforward(f, n), args[:m])
        pulled = evaluate(pullback(f, n, derived=derived), (*args[:n], *args[m:]))
        for i, (x, ct) in enumerate(zip(xs, pulled, strict=True)):
            assert ct.shape == x.shape, f"cotangent {i} has shape {ct.shape}, its operand {x.shape}"
            assert ct.dtype == x.dtype, f"cotangent {i} is {ct.dtype}, its operand {x.dtype}"
        return pairing(args[m:], pushed), pairing(pulled, args[n:m])

    eps = max((epsilon(a.dtype) for a in (*xs, *cts)), default=0.0)
    _assert_sides(sides, (*xs, *vs, *cts), max(1e-12, 16 * eps), "⟨ct, Jv⟩ = ⟨Jᵀct, v⟩")


Pairing = tuple[float, float]


def _assert_sides(
    sides: Callable[..., tuple[Pairing, Pairing]], args: Arrays, relative: float, what: str
) -> None:
    """Fail unless both sides agree to `relative` of Σ|terms| or the noise of their difference.

    A derivative that is 0 may be the difference of equal terms inside a rule, which Σ|terms| does
    not show. What rounding leaves of it is noise: it changes from one point to the next, where the
    error of a wrong rule stays.
    """
    (left, left_terms), (right, right_terms) = sides(*args)
    tolerance = relative * (left_terms + right_terms) + 1e-300
    if abs(left - right) > tolerance:

        def difference(*points: Array) -> list[Array]:
            (a, _), (b, _) = sides(*points)
            return [np.asarray(a - b)]

        rng = np.random.default_rng(0)
        tolerance += 8 * float(noise(difference, args, [random_like(rng, x) for x in args])[0])
    assert_close(np.asarray(left), np.asarray(right), tolerance, what)


def law_jvp_linear(f: Flat, xs: Arrays, us: Arrays, vs: Arrays) -> None:
    """4: J·(2u - v/2) = 2J·u - (J·v)/2, and J·0 is exactly 0."""
    _is_linear(pushforward(f, len(xs)), xs, us, vs, "jvp is linear in the tangent")


def law_vjp_linear(f: Flat, xs: Arrays, us: Arrays, vs: Arrays) -> None:
    """5: Jᵀ·(2u - v/2) = 2Jᵀ·u - (Jᵀ·v)/2, and Jᵀ·0 is exactly 0."""
    _is_linear(pullback(f, len(xs)), xs, us, vs, "vjp is linear in the cotangent")


def _is_linear(g: Flat, xs: Arrays, us: Arrays, vs: Arrays, what: str) -> None:
    mixed = [np.asarray(2 * u - v / 2).astype(u.dtype) for u, v in zip(us, vs, strict=True)]
    of_u, of_v, of_mixed = (evaluate(g, (*xs, *ts)) for ts in (us, vs, mixed))
    expected = [np.asarray(2 * a - b / 2).astype(a.dtype) for a, b in zip(of_u, of_v, strict=True)]
    assert_near(of_mixed, expected, what, us)
    law_zero(g, xs, us, what)


def law_zero(g: Flat, xs: Arrays, like: Arrays, what: str) -> None:
    """4, 5: zero in, exact zero out, of whatever value the primal is."""
    for y in evaluate(g, (*xs, *[np.zeros_like(u) for u in like])):
        assert_close(y, np.zeros_like(y), 0.0, f"{what}: zero gives exact zero")


def law_transpose(prim: Primitive, params: dict[str, Any], args: Arrays, active: Sequence[int],
                  rng: Rng) -> None:  # fmt: skip
    """6: the transpose of the transpose of a linear primitive is the primitive."""
    if prim.linear is None or isinstance(prim.transpose, Absent):
        return
    linear = [i for i in (prim.linear_in or range(len(args))) if i in active]
    groups = [linear] if prim.linear == "jointly" else [[i] for i in linear]
    for group in groups:
        if group:
            _transposed_twice(prim, params, args, group, rng)


def _transposed_twice(
    prim: Primitive, params: dict[str, Any], args: Arrays, group: Sequence[int], rng: Rng
) -> None:
    def restricted(*linear: Any) -> list[Any]:
        full = values(args)
        for i, x in zip(group, linear, strict=True):
            full[i] = x
        out = prim_call(prim, params)(*full)
        return [y for y in out if dtypes.is_inexact(y.dtype)]

    xs = [random_like(rng, args[i]) for i in group]
    expected = evaluate(restricted, xs)
    in_avals = [v.aval for v in values(xs)]
    out_avals = [v.aval for v in values(expected)]
    if not out_avals:
        return
    multiple = prim.multiple_results

    def transposed(*cts: Any) -> list[Any]:
        operands = values(args)
        for i, aval in zip(group, in_avals, strict=True):
            operands[i] = Unknown(aval)
        back = prim.rule("transpose")(list(cts) if multiple else cts[0], *operands, **params)
        return [back[i] for i in group]

    _, tape = linear_flat(transposed, out_avals)
    twice = tape.backward(values(xs), consume=False)
    got = [
        np.zeros(a.shape, a.dtype) if y is None else arrays_of([y])[0]
        for y, a in zip(twice, out_avals, strict=True)
    ]
    assert_near(got, expected, "transpose of transpose")


def prim_call(prim: Primitive, params: dict[str, Any]) -> Flat:
    """A primitive with its parameters as a flat function."""

    def apply(*xs: Any) -> list[Any]:
        out = bind(prim, *xs, **params)
        return list(out) if prim.multiple_results else [out]

    return apply


def law_linearize(f: Flat, xs: Arrays, vs: Arrays) -> None:
    """7: linearize = jvp, and the primal results of both are those of f."""
    n = len(xs)
    expected = evaluate(pushforward(f, n), (*xs, *vs))
    assert_near(evaluate(linearized(f, n), (*xs, *vs)), expected, "linearize = jvp")
    law_value_kept(f, xs)


def law_value_kept(f: Flat, xs: Arrays) -> None:
    """7: differentiating a function does not change its value."""
    primal = evaluate(f, xs)
    for linear in (False, True):
        outs, _ = record_flat(f, values(xs), [True] * len(xs), linear=linear)
        for a, e in zip(arrays_of(outs), primal, strict=True):
            assert_identical(a, e, "the value under a derivative = the value")


def law_split(f: Flat, xs: Arrays, vs: Arrays, cts: Arrays) -> None:
    """7: differentiating in one operand at a time adds up to differentiating in all."""
    n = len(xs)
    if n < 2:
        return
    pulled = evaluate(pullback(f, n), (*xs, *cts))
    pushed = evaluate(pushforward(f, n), (*xs, *vs))
    total = [np.zeros_like(y) for y in pushed]
    for i in range(n):
        one = _only(f, xs, i)
        part = evaluate(pushforward(one, 1), (xs[i], vs[i]))
        total = [(a + b).astype(a.dtype) for a, b in zip(total, part, strict=True)]
        alone = evaluate(pullback(one, 1), (xs[i], *cts))
        assert_near(alone, [pulled[i]], f"vjp in operand {i}", cts)
    assert_near(total, pushed, "the sum of partial jvps")


def _only(f: Flat, xs: Arrays, i: int) -> Flat:
    def one(x: Any) -> list[Any]:
        full = values(xs)
        full[i] = x
        return f(*full)

    return one


def law_vjp_derived(f: Flat, xs: Arrays, cts: Arrays) -> None:
    """8: the vjp rules = the transposed jvp rules."""
    n = len(xs)
    own = evaluate(pullback(f, n), (*xs, *cts))
    derived = evaluate(pullback(f, n, derived=True), (*xs, *cts))
    assert_near(own, derived, "explicit vjp = derived vjp", cts)


def law_order_2(f: Flat, xs: Arrays, rng: Rng) -> None:
    """9: the derivatives of jvp and of vjp are what differences give."""
    n = len(xs)
    vs, us = ([random_like(rng, x) for x in xs] for _ in range(2))
    law_jvp(at(pushforward(f, n), *vs), xs, us)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    law_jvp(at(pullback(f, n), *cts), xs, us)


def law_order_3(f: Flat, xs: Arrays, rng: Rng) -> None:
    """9: so are those of their derivatives, forward and reverse."""
    n = len(xs)
    vs, us, ws = ([random_like(rng, x) for x in xs] for _ in range(3))
    forward = at(pushforward(f, n), *vs)
    law_jvp(at(pushforward(forward, n), *us), xs, ws)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    reverse = at(pullback(f, n), *cts)
    law_jvp(at(pullback(reverse, n), *us), xs, ws)


def law_hessian(f: Flat, xs: Arrays, rng: Rng) -> None:
    """10: the Hessian is symmetric and every mix of modes gives the same product with it."""
    n = len(xs)
    vs, us = ([random_like(rng, x) for x in xs] for _ in range(2))
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    gradient = at(pullback(f, n), *cts)
    expected = evaluate(pushforward(gradient, n), (*xs, *vs))
    reverse = evaluate(pullback(gradient, n), (*xs, *vs))
    assert_near(reverse, expected, "reverse over reverse = forward over reverse")
    # ⟨ct, J(x)·v⟩ differentiated in x.
    along = at(pushforward(f, n), *vs)
    assert_near(
        evaluate(pullback(along, n), (*xs, *cts)), expected, "reverse over forward = the others"
    )

    def sides(*args: Array) -> tuple[Pairing, Pairing]:
        points, (us, vs) = args[:n], (args[n : 2 * n], args[2 * n :])
        product = pushforward(gradient, n)
        of_u, of_v = (evaluate(product, (*points, *ts)) for ts in (us, vs))
        return pairing(of_u, vs), pairing(of_v, us)

    eps = max((epsilon(x.dtype) for x in (*xs, *cts)), default=0.0)
    _assert_sides(sides, (*xs, *us, *vs), max(1e-11, 64 * eps), "the Hessian is symmetric")


def law_broadcast(f: Flat, xs: Arrays, cts: Arrays) -> None:
    """17: gradients of broadcast operands = sums of gradients of explicitly repeated ones."""
    n = len(xs)
    pulled = evaluate(pullback(f, n), (*xs, *cts))
    full = np.broadcast_shapes(*[x.shape for x in xs])
    repeated = [np.broadcast_to(x, full).copy() for x in xs]
    wide = evaluate(pullback(f, n), (*repeated, *cts))
    for i, (x, ct, ct_wide) in enumerate(zip(xs, pulled, wide, strict=True)):
        extra = len(full) - x.ndim
        axes = tuple(k for k, m in enumerate(full) if k < extra or x.shape[k - extra] != m)
        summed = ct_wide.sum(axes).reshape(x.shape).astype(x.dtype)
        assert ct.shape == x.shape, f"gradient {i} has shape {ct.shape}, its operand {x.shape}"
        assert_near([ct], [summed], f"broadcast gradient {i} = summed gradient")


def law_fan_out(f: Flat, xs: Arrays, us: Arrays, vs: Arrays) -> None:
    """18: a value used several times gets the sum of its cotangents."""
    n = len(xs)
    of_u, of_v = (evaluate(pullback(f, n), (*xs, *ts)) for ts in (us, vs))
    expected = [(a + b + a).astype(a.dtype) for a, b in zip(of_u, of_v, strict=True)]

    def thrice(*args: Any) -> list[Any]:
        once = f(*args)
        return [*once, *once, *f(*args)]

    got = evaluate(pullback(thrice, n), (*xs, *us, *vs, *us))
    assert_near(got, expected, "a value used three times", us)
    if n > 1 and len({(x.shape, x.dtype) for x in xs}) == 1:
        _law_aliasing(f, xs, us)


def _law_aliasing(f: Flat, xs: Arrays, cts: Arrays) -> None:
    n = len(xs)
    same = [xs[0]] * n
    parts = evaluate(pullback(f, n), (*same, *cts))
    total = np.asarray(sum(parts)).astype(xs[0].dtype)
    got = evaluate(pullback(lambda x: f(*[x] * n), 1), (xs[0], *cts))
    assert_near(got, [total], "one value as every operand")


def first_order(f: Flat, xs: Arrays, rng: Rng) -> None:
    """Laws 2 to 5, 7, 8 and 18 at one point."""
    f = inexact_only(f)
    outs = evaluate(f, xs)
    us, vs = ([random_like(rng, x) for x in xs] for _ in range(2))
    cts, ds = ([random_like(rng, y) for y in outs] for _ in range(2))
    law_jvp(f, xs, vs)
    law_jvp_basis(f, xs, rng)
    law_adjoint(f, xs, vs, cts)
    law_adjoint(f, xs, basis_like(rng, xs), basis_like(rng, outs))
    law_jvp_linear(f, xs, us, vs)
    law_vjp_linear(f, xs, cts, ds)
    law_linearize(f, xs, vs)
    law_split(f, xs, vs, cts)
    law_vjp_derived(f, xs, cts)
    law_fan_out(f, xs, cts, ds)
