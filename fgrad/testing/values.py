"""The laws of values: against the reference, and of layouts, dtypes, inputs and errors."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import RuleError
from fgrad.core.evaluate import WEAK, ArrayImpl
from fgrad.core.primitive import Invalid
from fgrad.core.transforms.linearize import record_flat
from fgrad.testing.batching import jacobian
from fgrad.testing.functions import (
    Array,
    Flat,
    arrays_of,
    evaluate,
    inexact_only,
    pullback,
    pushforward,
    random_like,
    values,
)
from fgrad.testing.laws import law_zero, prim_call
from fgrad.testing.oracle import (
    assert_close,
    assert_identical,
    assert_near,
    chain,
    epsilon,
    gamma,
    ulp,
    widened,
    widest,
)
from fgrad.testing.strategies import Problem, spec_of

Arrays = Sequence[Array]
Rng = np.random.Generator


def observed_call(problem: Problem) -> Flat:
    """The primitive with its parameters: what its spec observes of the results."""
    call = prim_call(problem.prim, problem.params)
    observe = spec_of(problem.prim).observe
    if observe is None:
        return call
    return lambda *xs: list(observe(call(*xs), **problem.params))


def law_reference(problem: Problem) -> None:
    """1: the value is that of the float64 reference at the same inputs, within the spec's bound."""
    spec = spec_of(problem.prim)
    if spec.reference is None:
        if "reference" not in spec.skip:
            raise RuleError(
                f"the spec of {problem.prim.name} has no reference and does not say why in `skip`"
            )
        return
    judge(problem, evaluate(observed_call(problem), problem.args), spec.reference)


def judge(problem: Problem, got: Arrays, reference: Callable[..., Any]) -> None:
    """Compare results of a call with a float64 reference at the same inputs.

    Args:
        problem: The call; its spec states the bound.
        got: What is observed of the results.
        reference: ``(*wide arrays, **params)`` → the results.
    """
    spec = spec_of(problem.prim)
    wide = [widened(x) for x in problem.args]
    with np.errstate(all="ignore"):
        expected = reference(*wide, **problem.params)
    references = list(expected) if problem.prim.multiple_results else [expected]
    if spec.observe is not None:
        references = arrays_of(spec.observe(values(references), **problem.params))
    assert len(got) == len(references), f"{len(got)} results, the reference has {len(references)}"
    for i, (y, r) in enumerate(zip(got, references, strict=True)):
        what = f"value, result {i}"
        if not dtypes.is_inexact(y.dtype):
            assert_close(y, np.asarray(r).astype(y.dtype), 0.0, what)
            continue
        r = widened(np.asarray(r) + np.zeros((), widest(y.dtype)))
        bound = _value_bound(problem, wide, i, y, r)
        assert_close(y, _representable(r, y.dtype), bound, what)


def _representable(reference: Array, dtype: np.dtype[Any]) -> Array:
    """The reference; infinite where the dtype cannot hold it."""
    info = dtypes.finfo(dtype)
    limit = float(info.max) * (1 + float(info.eps) / 4)
    if reference.dtype.kind == "c":
        return reference
    with np.errstate(all="ignore"):
        return np.where(np.abs(reference) > limit, np.sign(reference) * np.inf, reference)


def _value_bound(problem: Problem, wide: Arrays, i: int, y: Array, reference: Array) -> Array:
    spec = spec_of(problem.prim)
    step = ulp(reference, y.dtype)
    if spec.ulps is not None:
        # A double reference is itself rounded, unless it is the same exact operation.
        own = 1.0 if epsilon(y.dtype) < 1e-15 and spec.ulps >= 1 else 0.0
        complexes = 2.0 if y.dtype.kind == "c" else 1.0
        return (spec.ulps * complexes + own) * step
    if spec.terms is None:
        raise RuleError(f"the spec of {problem.prim.name} states neither ulps nor terms")
    with np.errstate(all="ignore"):
        given = spec.terms(*wide, **problem.params)
    terms = np.asarray(given[i] if problem.prim.multiple_results else given)
    longest = chain(max((x.size for x in problem.args), default=1))
    single = np.dtype(np.float32)
    if epsilon(y.dtype) > epsilon(single):  # summed in float32, rounded once
        return 0.5 * step * (1 + 1e-6) + gamma(longest, single) * terms
    complexes = 4.0 if y.dtype.kind == "c" else 1.0  # a complex product is four
    both = 2.0 if y.dtype == widest(y.dtype) else 1.0  # a double reference is such a sum, too
    return both * complexes * gamma(longest + 1, y.dtype) * terms


def law_abstract(problem: Problem) -> None:
    """1: the abstract rule gives the actual shape, dtype and weak type."""
    prim, params = problem.prim, problem.params
    weak_too = all(x.dtype in _WEAK_DTYPES for x in problem.args)
    for flags in (0, WEAK) if weak_too else (0,):
        operands = [ArrayImpl(x, flags) for x in problem.args]
        stated = prim.abstract(*[x.aval for x in operands], **params)
        expected = list(stated) if prim.multiple_results else [stated]
        got = [y.aval for y in prim_call(prim, params)(*operands)]
        assert got == expected, f"the abstract rule states {expected!r}, the value is {got!r}"


_WEAK_DTYPES = tuple(map(np.dtype, (np.int32, np.float32, np.complex64)))


def law_layouts(f: Flat, xs: Arrays, rng: Rng) -> None:
    """19: any memory layout of the operands gives the same values."""
    expected = evaluate(f, xs)
    for make in LAYOUTS:
        laid = [make(x) for x in xs]
        assert_near(evaluate(f, laid), expected, f"layout {make.__name__.strip('_')}")
    repeated = [_zero_strides(x, rng) for x in xs]
    plain = evaluate(f, [np.ascontiguousarray(x).reshape(x.shape) for x in repeated])
    assert_near(evaluate(f, repeated), plain, "layout zero strides")


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x).reshape(x.shape, order="F")


def _reversed(x: Array) -> Array:
    """Negative strides on every axis."""
    flip = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[flip]).reshape(x.shape)[flip]


def _spread(x: Array) -> Array:
    """Gaps between the elements."""
    wide = np.zeros((*(2 * n for n in x.shape), 2), x.dtype)
    view = wide[(*(slice(None, None, 2),) * x.ndim, slice(1, 2))].reshape(x.shape)
    np.copyto(view, x)
    return view


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _zero_strides(x: Array, rng: Rng) -> Array:
    """One row repeated without memory of its own along a random axis."""
    if not x.ndim or not x.size:
        return x
    axis = int(rng.integers(x.ndim))
    return np.broadcast_to(np.take(x, [0], axis), x.shape)


LAYOUTS: tuple[Callable[[Array], Array], ...] = (_fortran, _reversed, _spread, _read_only)


def law_pure(f: Flat, xs: Arrays, repeats: int = 3) -> None:
    """23: operands are not written to, and repetition gives the same bits."""
    kept = [x.copy() for x in xs]
    first = evaluate(f, xs)
    firsts = [y.copy() for y in first]
    for _ in range(repeats):
        for a, e in zip(evaluate(f, xs), firsts, strict=True):
            assert_identical(a, e, "a repeated call")
    for a, e in zip(xs, kept, strict=True):
        assert_identical(a, e, "an operand after the call")
    for a, e in zip(first, firsts, strict=True):
        assert_identical(a, e, "a result after later calls")


def law_repeats(task: Callable[[], Arrays], times: int) -> None:
    """23: a task repeated many times gives the same bits each time."""
    first = [y.copy() for y in task()]
    for _ in range(times - 1):
        for a, e in zip(task(), first, strict=True):
            assert_identical(a, e, "a repeated task")


def law_backward_twice(f: Flat, xs: Arrays, rng: Rng) -> None:
    """23: one pullback called twice gives the same, and writes to no cotangent or operand."""
    kept = [x.copy() for x in xs]
    outs, tape = record_flat(f, values(xs), [True] * len(xs))
    cts = [random_like(rng, y) for y in arrays_of(outs)]
    kept_cts = [c.copy() for c in cts]
    first = [None if g is None else arrays_of([g])[0].copy() for g in
             tape.backward(values(cts), consume=False)]  # fmt: skip
    again = tape.backward(values(cts), consume=False)
    last = tape.backward(values(cts), consume=True)
    for one, two, three in zip(first, again, last, strict=True):
        if one is None:
            assert two is None, "the second backward gives a cotangent, the first had none"
            continue
        assert_identical(arrays_of([two])[0], one, "backward twice")
        assert_identical(arrays_of([three])[0], one, "backward with consume")
    for a, e in zip((*xs, *cts), (*kept, *kept_cts), strict=True):
        assert_identical(a, e, "an operand or cotangent after backward")


def law_low_derivatives(f: Flat, wide_f: Flat, xs: Arrays, rng: Rng, ulps: float) -> None:
    """20: derivatives in a narrow dtype = those of the float64 rule at the rounded operands.

    The bound of an element is a number of units in the last place of Σ|terms| of its product
    with the Jacobian, plus what the Jacobian changes when each operand moves by two units.

    Args:
        f: The function, of narrow operands.
        wide_f: The same of float64 operands.
        xs: The narrow operands.
        rng: For tangents and cotangents.
        ulps: The bound of the spec on the values.
    """
    f = inexact_only(f)
    n = len(xs)
    wide = [widened(x) for x in xs]
    outs = evaluate(f, xs)
    vs = [random_like(rng, x) for x in xs]
    cts = [random_like(rng, y) for y in outs]
    pushed = evaluate(pushforward(f, n), (*xs, *vs))
    pulled = evaluate(pullback(f, n), (*xs, *cts))
    for y, t in zip((*outs, *xs), (*pushed, *pulled), strict=True):
        assert t.dtype == y.dtype, f"a derivative is {t.dtype}, its primal {y.dtype}"
        assert t.shape == y.shape, f"a derivative has shape {t.shape}, its primal {y.shape}"
    if any(x.dtype.kind == "c" for x in (*xs, *outs)):
        return
    wide_f = _widened_results(inexact_only(wide_f))
    matrix = jacobian(wide_f, wide, forward=True)
    moved = np.zeros_like(matrix)
    for sign in (1.0, -1.0):
        near = [
            w + sign * 2 * ulp(w, x.dtype) * rng.choice([-1.0, 1.0], w.shape)
            for w, x in zip(wide, xs, strict=True)
        ]
        moved = np.maximum(moved, np.abs(jacobian(wide_f, near, forward=True) - matrix))
    for jac, shift, given, got, what in (
        (matrix, moved, vs, pushed, "jvp"),
        (matrix.T, moved.T, cts, pulled, "vjp"),
    ):
        _low_product(jac, shift, given, got, ulps, f"{what} in low precision")


def _widened_results(f: Flat) -> Flat:
    return lambda *xs: [convert_element_type(y, np.float64) for y in f(*xs)]


def _low_product(
    matrix: Array, moved: Array, given: Arrays, got: Arrays, ulps: float, what: str
) -> None:
    v = np.concatenate([widened(x).ravel() for x in given])
    actual = np.concatenate([widened(x).ravel() for x in got])
    dtype = max((x.dtype for x in (*given, *got)), key=epsilon)
    with np.errstate(all="ignore"):
        expected = matrix @ v
        terms = np.abs(matrix) @ np.abs(v)
        bound = (16 + 4 * ulps) * epsilon(dtype) * terms + 2 * moved @ np.abs(v)
    tiny = 64 * float(dtypes.finfo(dtype).smallest_subnormal)
    held = np.abs(expected) + bound < float(dtypes.finfo(dtype).max) / 4
    assert_close(np.where(held, actual, 0.0), np.where(held, expected, 0.0), bound + tiny, what)


def law_special_zero(f: Flat, xs: Arrays, rng: Rng) -> None:
    """5: a zero tangent or cotangent gives exact zeros even where the operands are inf or NaN."""
    f = inexact_only(f)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e300])
    wild = [
        np.where(rng.integers(0, 2, x.shape), rng.choice(special, x.shape), x).astype(x.dtype)
        for x in xs
    ]
    outs = evaluate(f, wild)
    law_zero(pushforward(f, len(xs)), wild, xs, "jvp at inf and NaN")
    law_zero(pullback(f, len(xs)), wild, outs, "vjp at inf and NaN")


def law_invalid(prim: Any, invalid: Invalid, call: Callable[..., Any]) -> None:
    """25: a wrong call raises the stated error, its message complete, with the caller's line.

    Args:
        prim: The primitive.
        invalid: The wrong call.
        call: ``call(thunk)`` runs ``thunk()`` from a file outside the library, whose name the
            message must show.
    """
    operands = [_of_type(t) for t in invalid.types]
    apply = prim_call(prim, invalid.params)
    try:
        call(lambda: apply(*operands))
    except invalid.error as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        assert re.search(invalid.match, text), f"no {invalid.match!r} in the message: {text}"
        place = call.__code__.co_filename
        assert re.search(re.escape(place) + r":\d+", text), f"no line of {place} in: {text}"
        return
    raise AssertionError(
        f"{prim.name}{invalid.types} with {invalid.params} raised no {invalid.error.__name__}"
    )


def _of_type(text: str) -> ArrayImpl:
    """An array of a type written like ``f32[2,3]``: ones."""
    found = re.fullmatch(r"([a-z0-9_]+)\[([0-9,]*)\]", text)
    if found is None:
        raise RuleError(f"{text!r} is no type; write it like 'f32[2,3]'")
    shape = tuple(int(n) for n in found[2].split(",") if n)
    return ArrayImpl(np.ones(shape, _dtype_named(found[1])))


def _dtype_named(short: str) -> np.dtype[Any]:
    found = (getattr(dtypes, name) for name in dtypes.__all__)
    for dtype in (np.dtype(kind) for kind in found if isinstance(kind, type | np.dtype)):
        if dtype.names is None and dtype.kind != "O" and dtypes.short_name(dtype) == short:
            return dtype
    raise RuleError(f"no dtype has the short name {short!r}")
