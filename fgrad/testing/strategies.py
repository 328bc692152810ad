"""What a spec says, as data to draw: shapes, operands, whole calls of a primitive.

Hypothesis draws sizes and a seed, so that a failing example shrinks to small shapes; NumPy's
generator makes the elements from the seed, which costs far less than drawing each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad.core import dtypes
from fgrad.core.errors import RuleError
from fgrad.core.primitive import Absent, Case, Operand, Primitive, Spec
from fgrad.testing.matrices import GENERATORS

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

_LARGEST = 4  # of a named dimension
_SIDE = 3  # of an axis of "..."
_RANK = 3


def spec_of(prim: Primitive) -> Spec:
    """The spec of a primitive; raises `RuleError` with the stated reason where there is none."""
    if isinstance(prim.spec, Absent):
        raise RuleError(f"{prim.name} has no spec: {prim.spec.reason}")
    return prim.spec


def dtype_named(name: str) -> np.dtype[Any]:
    """The dtype of a name that a spec uses, such as 'bfloat16'."""
    return np.dtype(getattr(dtypes, name, name))


def patterns(case: Case) -> list[list[str]]:
    """The dimension names of each operand."""
    return [entry.split() for entry in case.shapes.split(",")]


def operands_of(spec: Spec, case: Case) -> tuple[Operand, ...]:
    """One `Operand` an operand of the case."""
    count = len(patterns(case))
    operands = spec.operands
    if isinstance(operands, Operand):
        return (operands,) * count
    if len(operands) < count:
        raise RuleError(f"the spec has {len(operands)} operands, its case {case.name!r} {count}")
    return operands[:count]


def shapes_of(case: Case) -> st.SearchStrategy[tuple[list[Shape], dict[str, int]]]:
    """Shapes of the operands of a case, and the sizes of its named dimensions."""
    entries = patterns(case)
    names = _names(entries)
    free = sum(entry == ["..."] for entry in entries)

    def build(drawn: tuple[Any, ...]) -> tuple[list[Shape], dict[str, int]]:
        sizes = dict(zip(names, drawn[1:], strict=True))
        return _filled(entries, sizes, drawn[0]), sizes

    each = [st.integers(case.smallest, _LARGEST)] * len(names)
    return st.tuples(broadcastable_shapes(free), *each).map(build)


def _names(entries: Sequence[Sequence[str]]) -> list[str]:
    return [
        n for n in dict.fromkeys(n for entry in entries for n in entry)
        if n != "..." and not n.isdigit()
    ]  # fmt: skip


def _filled(
    entries: Sequence[list[str]], sizes: Mapping[str, int], free: Sequence[Shape]
) -> list[Shape]:
    """The shapes that entries stand for; those of "..." are taken from `free` in turn."""
    drawn = iter(free)
    return [
        next(drawn) if entry == ["..."]
        else tuple(int(n) if n.isdigit() else sizes[n] for n in entry)
        for entry in entries
    ]  # fmt: skip


def broadcastable_shapes(count: int) -> st.SearchStrategy[list[Shape]]:
    """`count` shapes that broadcast together by NumPy's rule; some axes are 1 or left out.

    Integers alone are drawn, in one tuple: many examples need to be cheap.
    """
    sides = [st.integers(0, _SIDE)] * _RANK
    # How each further operand differs: 0, it does not; else the axes left out and those that are 1.
    changes = [st.integers(0, (_RANK + 1) * 2**_RANK)] * max(count - 1, 0)
    return st.tuples(
        st.integers(0, _RANK), st.integers(0, max(count - 1, 0)), *sides, *changes
    ).map(lambda drawn: _broadcastable(count, drawn))


def _broadcastable(count: int, drawn: tuple[int, ...]) -> list[Shape]:
    if not count:
        return []
    rank, first = drawn[:2]
    full = drawn[2 : 2 + rank]
    shapes = [full]
    for change in drawn[2 + _RANK :]:
        dropped, ones = divmod(max(change - 1, 0), 2**_RANK)
        narrow = tuple(1 if change and ones >> i & 1 else n for i, n in enumerate(full))
        shapes.append(narrow[min(dropped, rank) :] if change else full)
    shapes[0], shapes[first] = shapes[first], shapes[0]
    return shapes


class Problem:
    """A primitive with parameters and operands, ready for the laws.

    Attributes:
        prim: The primitive.
        case: The case of its spec.
        params: Its parameters.
        args: One NumPy array an operand.
        active: Operands that are differentiated: inexact and not 'static'.
        rng: For tangents, cotangents and choices.
    """

    __slots__ = ("active", "args", "case", "params", "prim", "rng")

    def __init__(
        self,
        prim: Primitive,
        case: Case,
        params: Mapping[str, Any],
        args: Sequence[Array],
        active: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        self.prim = prim
        self.case = case
        self.params = dict(params)
        self.args = list(args)
        self.active = list(active)
        self.rng = rng

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{a.dtype}{list(a.shape)}"
            + (f" {np.array2string(a, separator=', ', precision=17)}" if a.size <= 6 else "")
            for a in self.args
        )
        return f"{self.prim.name}({shown}; {self.params})"


def example_of(
    prim: Primitive, case: Case, dtype: np.dtype[Any] | str, seed: int = 0, size: int = 2
) -> Problem:
    """One call of a primitive, every free dimension of the same size; the same at each run."""
    spec = spec_of(prim)
    entries = patterns(case)
    length = max(size, case.smallest)
    sizes = dict.fromkeys(_names(entries), length)
    shapes = _filled(entries, sizes, [(length, length + 1)] * len(entries))
    params = case.params(sizes) if callable(case.params) else case.params
    rng = np.random.default_rng(seed)
    return make_problem(prim, case, params, shapes, np.dtype(dtype), rng, spec)


def problems(prim: Primitive, case: Case, dtype: np.dtype[Any] | str) -> st.SearchStrategy[Problem]:
    """Calls of a primitive: shapes are drawn, elements come from a drawn seed.

    Args:
        prim: The primitive.
        case: A case of its spec.
        dtype: What operands of dtype 'same' take.
    """
    spec = spec_of(prim)

    def build(drawn: tuple[tuple[list[Shape], dict[str, int]], int]) -> Problem:
        (shapes, sizes), seed = drawn
        params = case.params(sizes) if callable(case.params) else case.params
        rng = np.random.default_rng(seed)
        return make_problem(prim, case, params, shapes, np.dtype(dtype), rng, spec)

    return st.tuples(shapes_of(case), st.integers(0, 2**32 - 1)).map(build)


def make_problem(
    prim: Primitive,
    case: Case,
    params: Mapping[str, Any],
    shapes: Sequence[Shape],
    dtype: np.dtype[Any],
    rng: np.random.Generator,
    spec: Spec,
) -> Problem:
    """A call of `prim` with operands of these shapes."""
    operands = operands_of(spec, case)
    pool = _Distinct(rng, operands, shapes)
    args = []
    active = []
    for i, (operand, shape) in enumerate(zip(operands, shapes, strict=True)):
        kind = dtype if operand.dtype == "same" else dtype_named(operand.dtype)
        args.append(elements(rng, operand, shape, kind, pool))
        if operand.generator not in ("static", "indices") and dtypes.is_inexact(kind):
            active.append(i)
    return Problem(prim, case, params, args, active, rng)


class _Distinct:
    """Hands out values without ties, over all operands of one call that ask for such."""

    __slots__ = ("fractions", "start")

    def __init__(
        self, rng: np.random.Generator, operands: Sequence[Operand], shapes: Sequence[Shape]
    ) -> None:
        total = sum(
            int(np.prod(s))
            for o, s in zip(operands, shapes, strict=True)
            if o.generator == "distinct"
        )
        self.fractions = (rng.permutation(total) + 0.5) / max(total, 1)
        self.start = 0

    def take(self, shape: Shape) -> Array:
        """The next values, in (0, 1)."""
        n = int(np.prod(shape))
        out = self.fractions[self.start : self.start + n].reshape(shape)
        self.start += n
        return out


def elements(
    rng: np.random.Generator,
    operand: Operand,
    shape: Shape,
    dtype: np.dtype[Any],
    pool: _Distinct | None = None,
) -> Array:
    """An array that an operand may hold."""
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if dtype.kind in "iu":
        return _integers(rng, operand, shape, dtype)
    make = GENERATORS.get(operand.generator)
    if make is not None:
        x = make(_uniform(rng, operand, shape, dtype))
    elif operand.generator == "distinct" and pool is not None:
        x = operand.low + (operand.high - operand.low) * pool.take(shape)
        if dtype.kind == "c":
            x = x + 1j * rng.uniform(operand.low, operand.high, shape)
    elif operand.generator in ("uniform", "nonzero", "static", "distinct", "indices"):
        x = _uniform(rng, operand, shape, dtype)
    else:
        raise RuleError(f"no generator is named {operand.generator!r}")
    return np.asarray(x).astype(dtype)


def _uniform(
    rng: np.random.Generator, operand: Operand, shape: Shape, dtype: np.dtype[Any]
) -> Array:
    kinks = operand.kinks + ((0.0,) if operand.generator == "nonzero" else ())
    x = _off_kinks(np.asarray(rng.uniform(operand.low, operand.high, shape)), operand, kinks, rng)
    if dtype.kind != "c":
        return x
    # Short of the branch points at ±i of the inverse functions.
    return np.asarray(x + 1j * np.asarray(rng.uniform(-0.6, 0.6, shape)))


def _off_kinks(
    x: Array, operand: Operand, kinks: Sequence[float], rng: np.random.Generator
) -> Array:
    """Move values that are nearer than the margin to a kink away, to either side of it."""
    for kink in kinks:
        near = np.abs(x - kink) < operand.margin
        up = kink + operand.margin * (1 + rng.uniform(0, 1, x.shape))
        down = kink - operand.margin * (1 + rng.uniform(0, 1, x.shape))
        above = (x >= kink) & (up <= operand.high) | (down < operand.low)
        x = np.where(near, np.where(above, up, down), x)
    return x


def _integers(
    rng: np.random.Generator, operand: Operand, shape: Shape, dtype: np.dtype[Any]
) -> Array:
    bounds = np.iinfo(dtype)
    low = max(int(np.ceil(operand.low)), bounds.min)
    high = max(low, min(int(np.floor(operand.high)), bounds.max))
    x = np.asarray(rng.integers(low, high, shape, endpoint=True))
    if operand.generator == "nonzero":
        x = np.where(x == 0, high, x)
    return x.astype(dtype)


@st.composite
def arrays(
    draw: Any,
    shape: Shape | None = None,
    dtype: Any = np.float64,
    *,
    low: float = -2.0,
    high: float = 2.0,
) -> Array:
    """Arrays of a dtype, of a given or a drawn shape, with elements in [low, high].

    Args:
        draw: Given by hypothesis.
        shape: The shape; up to three axes of length 0 to 3 where it is None.
        dtype: The dtype.
        low: Least element.
        high: Greatest element.
    """
    if shape is None:
        shape = tuple(draw(st.lists(st.integers(0, _SIDE), max_size=_RANK)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return elements(rng, Operand(low, high), shape, np.dtype(dtype))


def pytrees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Pytrees of tuples, lists and dicts over `leaves`."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
        ),
        max_leaves=5,
    )
