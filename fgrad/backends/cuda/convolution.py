"""Convolutions as contractions over windows, of any layout, dilation and grouping.

Both gradients are convolutions again, so this is all of them.
"""

from collections.abc import Sequence

from fgrad.backends.cuda import contraction
from fgrad.backends.cuda.calls import INPUT, OUTPUT, LibraryPlan, Place
from fgrad.backends.cuda.contraction import Axis, Contraction, Window
from fgrad.backends.cuda.texts import is_known
from fgrad.compile.plan import Library, View, contiguous
from fgrad.lax.conv_shapes import pick
from fgrad.lax.precision import multiply_in


def plan(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes a convolution; None for dtypes and sizes that the kernel does not know."""
    dtype, out = step.eqn.inputs[0].aval.dtype, step.eqn.outputs[0].aval
    if not (is_known(dtype) and is_known(out.dtype)):
        return None
    if not out.size:
        return LibraryPlan("convolution of no elements", ())
    form = _form(step, views)
    call = contraction.call(form, (Place(INPUT, 0), Place(INPUT, 1), Place(OUTPUT, 0)))
    return None if call is None else LibraryPlan("convolution by implicit products", (call,))


def _form(step: Library, views: Sequence[View]) -> Contraction:
    params, out = step.eqn.params, step.eqn.outputs[0].aval
    x, w = views
    d = params["dimension_numbers"]
    (n, c, *size), (xn, xc, *xs) = pick(x.shape, d.lhs_spec), pick(x.strides, d.lhs_spec)
    (o, i, *taps), (wo, wi, *ws) = pick(w.shape, d.rhs_spec), pick(w.strides, d.rhs_spec)
    (_, _, *places), (on, oc, *os) = (
        pick(v, d.out_spec) for v in (out.shape, contiguous(out.shape))
    )
    features, batches = params["feature_group_count"], params["batch_group_count"]
    groups = features * batches
    moved = c // features * xc if features > 1 else n // batches * xn
    stack = (Axis(groups, moved, o // groups * wo, o // groups * oc),)
    rows = (
        Axis(n // batches, xn, 0, on),
        *(Axis(m, 0, 0, s) for m, s in zip(places, os, strict=True)),
    )
    taken = [Axis(m, 0, s, 0) for m, s in zip(taps, ws, strict=True)]
    channels = Axis(i, xc, wi, 0)
    first = 0 if xc == 1 else 1  # whichever has neighbours in memory comes last
    sums = (*taken, channels) if xc == 1 else (channels, *taken)
    windows = tuple(
        Window(axis + 1, axis + first, step_, low, spread, gap, length, stride)
        for axis, (step_, (low, _), spread, gap, length, stride) in enumerate(
            zip(
                params["window_strides"], params["padding"], params["rhs_dilation"],
                params["lhs_dilation"], size, xs, strict=True,
            )
        )
    )  # fmt: skip
    dtype = step.eqn.inputs[0].aval.dtype
    return Contraction(
        stack, rows, (Axis(o // groups, 0, wo, oc),), sums, windows, (x.offset, w.offset, 0),
        dtype, out.dtype, multiply_in(dtype, out.dtype),
    )  # fmt: skip
