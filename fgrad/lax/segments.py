"""How `scatter` writes: rows into numbered places, several of which may be the same place.

Bare arrays only. Duplicates are combined before they are written: sorted by place, then pairwise,
so that the result depends on the order of the updates alone and errors grow with the logarithm of
the number of duplicates.
"""

from typing import Any

import numpy as np

from fgrad.core.dtype_kinds import F32

__all__: list[str] = []


def write(xp: Any, ufunc: str, out: Any, places: Any, rows: Any, unique: bool) -> None:
    """Combine `rows` into the rows `places` of `out`, which is written to."""
    function = getattr(xp, ufunc) if ufunc else None
    if len(places) == 1:
        unique = True
    if function is None:
        if not unique and xp is not np:
            # On a device the writes of one place race: leave the last one only.
            places, rows = _last(xp, places, rows)
        out[places] = rows
    elif unique:
        out[places] = function(out[places], rows)
    elif out.shape[1] == 1 and xp is np:
        _write_scalars(function, out[:, 0], places, rows[:, 0])
    else:
        places, rows = _merged(xp, function, places, rows)
        out[places] = function(out[places], rows)


def _write_scalars(function: Any, out: Any, places: Any, values: Any) -> None:
    if function is np.add and out.dtype == F32:
        # Sums in float64, rounded once.
        if 8 * len(places) > len(out):
            touched = np.zeros(len(out), bool)  # a zero elsewhere keeps its sign
            touched[places] = True
            sums = np.bincount(places, values, len(out))
            np.add(out, sums, out=out, where=touched, casting="same_kind")
        else:
            places, which = np.unique(places, return_inverse=True)
            out[places] = out[places] + np.bincount(which, values)
    else:
        function.at(out, places, values)


def _sorted(xp: Any, places: Any, rows: Any) -> tuple[Any, Any]:
    order = _order(xp, places)
    return places[order], rows[order]


def _order(xp: Any, places: Any) -> Any:
    if xp is np and places.max() < 1 << 16:
        places = places.astype(np.uint16)  # which NumPy sorts by radix, some ten times faster
    return xp.argsort(places, kind="stable")


def _last(xp: Any, places: Any, rows: Any) -> tuple[Any, Any]:
    places, rows = _sorted(xp, places, rows)
    last = xp.ones(len(places), bool)
    last[:-1] = places[1:] != places[:-1]
    return places[last], rows[last]


def _merged(xp: Any, function: Any, places: Any, rows: Any) -> tuple[Any, Any]:
    """Rows of equal places combined: neighbours two by two, until every place stands once."""
    if function is np.add and len(places) > _FEW:
        return _summed(places, rows)
    places, rows = _sorted(xp, places, rows)
    while True:
        within = _rank(xp, places)
        second = within % 2 == 1
        if not bool(second.any()):
            return places, rows
        at = xp.flatnonzero(second)
        rows[at - 1] = function(rows[at - 1], rows[at])
        places, rows = places[~second], rows[~second]


def _rank(xp: Any, places: Any) -> Any:
    """For each of sorted places, how many equal ones stand before it."""
    new = xp.ones(len(places), bool)
    new[1:] = places[1:] != places[:-1]
    count = xp.arange(len(places))
    return count - count[new][xp.cumsum(new) - 1]


_FEW = 64  # below, SciPy is not worth its import
_BLOCK = 32  # the longest chain of additions


def _summed(places: Any, rows: Any) -> tuple[Any, Any]:
    """Rows of equal places added up: a sparse matrix of ones times the rows, block by block."""
    from scipy.sparse import csr_array

    order = _order(np, places)
    while True:
        places = places[order]
        within = _rank(np, places)
        starts = np.flatnonzero(within % _BLOCK == 0)
        ends = np.append(starts, len(places))
        ones = np.ones(len(places), rows.dtype)
        rows = csr_array((ones, order, ends), shape=(len(starts), len(places))) @ rows
        places = places[starts]
        if not within[starts].any():
            return places, rows
        order = np.arange(len(places))
