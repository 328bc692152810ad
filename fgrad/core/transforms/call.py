"""The primitive `jit`: a program called as one operation."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import (
    Absent,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Value,
)
from fgrad.core.program import run_compiled
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import (
    batch_jaxpr,
    jvp_jaxpr,
    linearize_jaxpr,
)

Values = Sequence[Value]


def call(jaxpr: Jaxpr, *args: Value, name: str) -> list[Value]:
    """Apply a closed program to values."""
    return bind(jit_p, *args, jaxpr=jaxpr, name=name)  # type: ignore[no-any-return]


def _jvp(
    primals: Values, tangents: Sequence[Value | None], *, jaxpr: Jaxpr, name: str
) -> tuple[list[Value], list[Value | None]]:
    program, nonzero = jvp_jaxpr(jaxpr, [t is not None for t in tangents])
    results = call(program, *primals, *(t for t in tangents if t is not None), name=f"jvp_{name}")
    n = len(jaxpr.outvars)
    given = iter(results[n:])
    return results[:n], [next(given) if nz else None for nz in nonzero]


def _forward(
    needed: tuple[bool, ...], primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    jaxpr = params["jaxpr"]
    cut = linearize_jaxpr(jaxpr, needed)
    results = call(cut.forward, *primals, name=params["name"])
    n = len(jaxpr.outvars)
    return results[:n], (*results[n:], cut)


def pull_back(
    needed: tuple[bool, ...], residuals: Sequence[Any], cts: Sequence[Value | None], name: str
) -> list[Value | None]:
    """Run the backward half of a cut program; the cut itself is the last residual."""
    *kept, cut = residuals
    given = [
        basis.zeros(a.tangent()) if ct is None else ct
        for ct, a, on in zip(cts, cut.forward.out_avals, cut.active, strict=False)
        if on
    ]
    back = iter(call(cut.backward, *kept, *given, name=f"backward_{name}"))
    return [next(back) if n else None for n in needed]


def _backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], cts: Sequence[Value | None],
    params: dict[str, Any],
) -> list[Value | None]:  # fmt: skip
    return pull_back(needed, residuals, cts, params["name"])


def _batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *, jaxpr: Jaxpr, name: str
) -> tuple[list[Value], list[int | None]]:
    moved = [x if d is None else basis.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    program, mapped = batch_jaxpr(jaxpr, axis, [d is not None for d in dims])
    outs = call(program, *moved, name=name)
    return outs, [0 if m else None for m in mapped]


jit_p = Primitive(
    "jit",
    "A program called as one operation.",
    abstract=lambda *_avals, jaxpr, name: jaxpr.out_avals,
    eager=lambda xp, *arrays, jaxpr, name: run_compiled(jaxpr, xp, arrays),
    jvp=_jvp,
    transpose=Absent("its program is inlined where it is transposed"),
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    lower=Lowering("call", "jaxpr"),
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
