"""Products within groups of equal numbers, by multiplications alone."""

import numpy as np

from fgrad.core import basis
from fgrad.core.primitive import Value
from fgrad.lax.arithmetic import mul
from fgrad.lax.compare import eq
from fgrad.lax.creation import iota
from fgrad.lax.scans import scan_pairs
from fgrad.lax.slicing import pad
from fgrad.lax.sort import sort_key_val
from fgrad.lax.take import take

__all__: list[str] = []


def products_of_others(x: Value, group: Value) -> Value:
    """For each element the product of all other elements of its group; no division by it.

    Sorted by group, the product of those before and of those after it come from scans of
    multiplications alone, so that derivatives of any order hold where elements are zero.

    Args:
        x: ``[n]``, numbers.
        group: ``[n]``, integers, at least -1; equal in a group.
    """
    places = iota(np.int32 if x.size < 2**31 else np.int64, x.size)
    group, order = sort_key_val(group, places)
    _, back = sort_key_val(order, places)
    x = _permuted(x, order)
    before = _run_products(x, group, reverse=False)
    after = _run_products(x, group, reverse=True)
    return _permuted(mul(before, after), back)


def _permuted(x: Value, order: Value) -> Value:
    return take(x, order, 0, unique_indices=True, mode="promise_in_bounds")


def _run_products(x: Value, run: Value, *, reverse: bool) -> Value:
    """Products of the elements before each in its run of equal numbers (after, in reverse)."""
    one = basis.scalar(1, x.dtype)
    step = ((-1, 1, 0),) if reverse else ((1, -1, 0),)

    def combine(before: list[Value], after: list[Value]) -> list[Value]:
        (a, run_a), (b, run_b) = before, after
        return [mul(basis.select_n(eq(run_a, run_b), one, a), b), run_b]

    if not x.size:
        return x
    # -2 numbers no run. Where the neighbour belongs to another run, nothing comes before.
    neighbour = pad(run, basis.scalar(-2, run.dtype), step)
    x = basis.select_n(eq(neighbour, run), one, pad(x, one, step))
    return scan_pairs(combine, [x, run], (1, -2), axis=0, reverse=reverse)[0]
