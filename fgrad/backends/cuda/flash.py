"""Attention in CUDA C that never stores its scores, forward and backward, deterministic.

Forward: a block takes some queries of a head and walks over the keys, with the greatest score and
the sum of exponentials so far. Backward: the probabilities are computed again from log Σ exp; one
kernel sums the cotangents of queries over keys, another those of keys and values over queries, so
that nothing is added by several blocks.
"""

from collections.abc import Mapping, Sequence
from math import prod
from string import Template
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cuda import tiles
from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.flash_text import BACKWARD_KEYS, BACKWARD_QUERIES, FORWARD, MEANS, SCORES
from fgrad.backends.cuda.texts import THREADS, Words, grid_of, named, type_of, walk
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Eqn

_DTYPES = ("bfloat16", "float16", "float32", "float64")
_WIDEST = {2: 512, 4: 512, 8: 256}  # of a head, by the bytes of a number
_SHARED_BYTES = 220 << 10  # of a block at most; less leaves room for a second block
_GOOD_BYTES = 100 << 10
_STORED_SCORES = 256 << 20  # bytes of scores from which on float32 does without them
_MOST = 2**31 - 1


class Form(NamedTuple):
    """An attention's sizes.

    Attributes:
        batch: The lengths of the leading axes.
        queries: Positions of queries.
        keys: Positions of keys.
        heads: Of queries.
        groups: Of keys and values.
        width: Of queries and keys.
        depth: Of values.
        dtype: Of all of them.
        bias: The dtype of the bias, if there is one.
        params: Of the equation.
    """

    batch: tuple[int, ...]
    queries: int
    keys: int
    heads: int
    groups: int
    width: int
    depth: int
    dtype: DType
    bias: DType | None
    params: Mapping[str, Any]

    @property
    def wide(self) -> str:
        """The C type computed in."""
        return "double" if self.dtype.name == "float64" else "float"

    @property
    def padded(self) -> tuple[int, int]:
        """The widths as multiples of 16, as tiles have them."""
        return -(-self.width // 16) * 16, -(-self.depth // 16) * 16


def keeps(eqn: Eqn) -> bool:
    """Whether an attention, or its pullback, is computed here and not by products.

    Numbers of 16 bits always are; others where their scores would take much memory.
    """
    first = 2 if eqn.primitive.name == "attention_grad" else 0
    if eqn.primitive.name not in ("attention", "attention_grad") or eqn.params.get("bias_grad"):
        return False
    q, k, v = (a.aval for a in eqn.inputs[first : first + 3])
    if not _is_known(q, k, v):
        return False
    *batch, t, heads, _ = q.shape
    scores = prod(batch) * heads * t * k.shape[-3] * q.dtype.itemsize
    return q.dtype.itemsize == 2 or scores >= _STORED_SCORES


def _is_known(q: ShapedArray, k: ShapedArray, v: ShapedArray) -> bool:
    widths = q.shape[-1], v.shape[-1]
    return (
        q.dtype.name in _DTYPES
        and max(widths) <= _WIDEST[q.dtype.itemsize]
        and 0 not in (*q.shape, *k.shape, *v.shape)
        and max(q.size, k.size, v.size) <= _MOST
    )


def _form(step: Library, first: int) -> Form | None:
    q, k, v = (a.aval for a in step.eqn.inputs[first : first + 3])
    if not _is_known(q, k, v) or step.eqn.params.get("bias_grad"):
        return None
    *batch, t, heads, width = q.shape
    s, groups, depth = v.shape[-3:]
    params = step.eqn.params
    extra = 3 if not first else 7  # behind the operands that are always there
    bias = step.eqn.inputs[extra].aval.dtype if params["has_bias"] else None
    return Form(tuple(batch), t, s, heads, groups, width, depth, q.dtype, bias, params)


def forward(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes `attention`; None for dtypes and widths that there is no code for."""
    form = _form(step, 0)
    if form is None:
        return None
    rows, columns, shared = _tile(form, _forward_bytes)
    word = Words()
    out, lse = (contiguous(v.aval.shape) for v in step.eqn.outputs)
    names = ("q", "k", "v", *_extras(form))
    moves = dict(zip(names, views, strict=True))
    fields = _fields(form, word, moves, rows, columns)
    fields |= _placed("out", out, word) | _lse("lse", lse, word)
    text = tiles.HEADER + SCORES + FORWARD.safe_substitute(fields, OFFSETS=_offsets(
        form, moves, {"out": out[:-3], "lse": lse[:-2]}, word
    ), COUNT=len(word.values))  # fmt: skip
    places = tuple(Place(INPUT, i) for i in range(len(views)))
    call = _call(
        "attention", text, form, rows, form.queries, form.heads,
        (*places, Place(OUTPUT, 0), Place(OUTPUT, 1)), word, shared,
    )  # fmt: skip
    return LibraryPlan("attention by tiles", (call,))


def backward(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes `attention_grad`; None as for `forward`, and where a bias has a cotangent."""
    form = _form(step, 2)
    if form is None:
        return None
    names = ("ct", "ct_lse", "q", "k", "v", "out", "lse", *_extras(form))
    moves = dict(zip(names, views, strict=True))
    place = {n: Place(INPUT, i) for i, n in enumerate(names)}
    rows_shape = (*form.batch, form.heads, form.queries)
    size = 8 if form.wide == "double" else 4
    calls = (
        _means(form, moves, place),
        _gradient(form, moves, place, step, BACKWARD_QUERIES, "dq"),
        _gradient(form, moves, place, step, BACKWARD_KEYS, "dkv"),
    )
    return LibraryPlan("attention's pullback by tiles", calls, size * prod(rows_shape))


def _means(form: Form, moves: Mapping[str, View], place: Mapping[str, Place]) -> KernelCall:
    """The launch that notes the mean of each query's score cotangents, in the workspace."""
    word, sizes = Words(), (*form.batch, form.heads, form.queries)
    used = ("ct", "ct_lse", "out")

    def of_rows(view: View) -> tuple[int, ...]:  # [..., T, N, D] by (..., N, T)
        *batch, t, n, _ = view.strides
        return (*batch, n, t)

    strides = {n: moves[n].strides if n == "ct_lse" else of_rows(moves[n]) for n in used}
    begin = " ".join(f"long long {n} = {word(moves[n].offset)};" for n in used)
    text = MEANS.safe_substitute(
        T=type_of(form.dtype), W=form.wide, TOTAL=word(prod(sizes)), DEPTH=word(form.depth),
        CT=word(moves["ct"].strides[-1]), OUT=word(moves["out"].strides[-1]),
        OFFSETS=begin + walk("i", sizes, strides, word), COUNT=len(word.values),
    )  # fmt: skip
    name, source = named("means", text)
    places = tuple(place[n] for n in used)
    grid = (grid_of(prod(sizes)), 1, 1)
    return KernelCall(name, source, grid, (THREADS, 1, 1), places, bytes(word))


def _gradient(
    form: Form, moves: Mapping[str, View], place: Mapping[str, Place], step: Library,
    text: Template, kind: str,
) -> KernelCall:  # fmt: skip
    """A launch that computes cotangents: of queries, or of keys and values."""
    of_queries = kind == "dq"
    rows, columns, shared = _tile(form, _backward_bytes)
    word = Words()
    used = ("q", "k", "v", "ct", "lse", *_extras(form))
    given = {n: moves[n] for n in used}
    fields = _fields(form, word, given, rows, columns) | _placed(
        "ct", moves["ct"].strides, word
    ) | _lse("lse", moves["lse"].strides, word)  # fmt: skip
    outs = ("dq",) if of_queries else ("dk", "dv")
    results = {
        n: contiguous(v.aval.shape)
        for n, v in zip(("dq", "dk", "dv"), step.eqn.outputs, strict=True)
        if n in outs
    }
    for n, strides in results.items():
        fields |= _placed(n, strides, word)
    offsets = _offsets(form, given, {n: s[:-3] for n, s in results.items()}, word)
    body = tiles.HEADER + SCORES + text.safe_substitute(
        fields, OFFSETS=offsets, COUNT=len(word.values)
    )  # fmt: skip
    index = {"dq": 0, "dk": 1, "dv": 2}
    places = (*(place[n] for n in used), *(Place(OUTPUT, index[n]) for n in outs))
    along = (form.queries, form.heads) if of_queries else (form.keys, form.groups)
    return _call(kind, body, form, rows, *along, places, word, shared)


def _extras(form: Form) -> tuple[str, ...]:
    """What is added to scores or hides them, of an attention's operands."""
    return tuple(n for n in ("bias", "mask") if form.params[f"has_{n}"])


def _call(
    kind: str, text: str, form: Form, rows: int, length: int, heads: int,
    places: Sequence[Place], word: Words, shared: int,
) -> KernelCall:  # fmt: skip
    name, source = named(kind, text)
    blocks = -(-length // rows) * heads * prod(form.batch)
    threads = (rows // 16 * 32, 1, 1)
    return KernelCall(name, source, (blocks, 1, 1), threads, tuple(places), bytes(word), shared)


# Words and constants of the texts


def _fields(
    form: Form, word: Words, moves: Mapping[str, View], rows: int, columns: int
) -> dict[str, Any]:
    """What all texts are filled with."""
    width, depth = form.padded
    extras = _extras(form)
    scale = np.array(form.params["scale"], np.float64).view(np.int64)
    types = {"mask": "bool", "lse": form.wide, "bias": type_of(form.bias or form.dtype)}
    pointers = [f"const {types.get(n, type_of(form.dtype))}* __restrict__ p_{n}" for n in moves]
    fields: dict[str, Any] = {
        "T": type_of(form.dtype), "W": form.wide, "POINTERS": ", ".join(pointers),
        "ROWS": rows, "COLUMNS": columns, "WIDTH": width, "DEPTH": depth,
        "SCALE": f"({form.wide})__longlong_as_double({word(int(scale))})",
        "CAUSAL": int(form.params["causal"]), "HAS_BIAS": int("bias" in extras),
        "HAS_MASK": int("mask" in extras), "QUERIES": word(form.queries),
        "KEYS": word(form.keys), "HEADS": word(form.heads), "GROUPS": word(form.groups),
        "ACROSS": word(form.width), "DEEP": word(form.depth), "PAD": _padding(form),
        "SCORE": _score(form, moves, word),
    }  # fmt: skip
    for n in ("q", "k", "v"):
        fields |= _placed(n, moves[n].strides, word)
    wide = all(_is_wide(form, moves[n]) for n in ("q", "k", "v", "ct") if n in moves)
    return fields | {"VECTORS": "true" if wide else "false"}


def _placed(name: str, strides: Sequence[int], word: Words) -> dict[str, str]:
    """Strides along positions, heads and widths, of an operand ``[..., T, N, H]``."""
    keys = (f"{name}_T", f"{name}_N", f"{name}_H")
    return {k: word(s) for k, s in zip(keys, strides[-3:], strict=True)}


def _lse(name: str, strides: Sequence[int], word: Words) -> dict[str, str]:
    return {f"{name}_N": word(strides[-2]), f"{name}_T": word(strides[-1])}


def _is_wide(form: Form, view: View) -> bool:
    """Whether eight numbers can be read at a time."""
    odd = [s for s in (view.offset, *view.strides[:-1]) if s % 8]
    return form.dtype.itemsize == 2 and view.strides[-1] == 1 and not odd and (
        view.shape[-1] % 8 == 0
    )  # fmt: skip


def _score(form: Form, moves: Mapping[str, View], word: Words) -> str:
    """Statements that change a score at a query and a key, or hide it."""
    lines = ["if (query >= queries || key >= keys) return false;"]
    if form.params["causal"]:
        lines.append("if (key > query) return false;")
    for n in _extras(form):
        strides = [
            s if size > 1 else 0
            for s, size in zip(moves[n].strides[-3:], moves[n].shape[-3:], strict=True)
        ]
        at = " + ".join(
            f"{i} * {word(s)}" for i, s in zip(("head", "query", "key"), strides, strict=True)
        )
        if n == "mask":
            lines.append(f"if (!p_mask[mask + {at}]) return false;")
        else:
            lines.append(f"score += fgl_cast<{form.wide}>(p_bias[bias + {at}]);")
    return " ".join(lines)


def _offsets(
    form: Form, moves: Mapping[str, View], outs: Mapping[str, Sequence[int]], word: Words
) -> str:
    """Statements that name where the operands and results of a batch begin."""
    begin = [f"long long {n} = {word(v.offset)};" for n, v in moves.items()]
    begin += [f"long long {n} = 0;" for n in outs]
    strides: dict[str, Sequence[int]] = {}
    for n, v in moves.items():
        sizes = v.shape[: len(form.batch)]
        strides[n] = [s if size > 1 else 0 for s, size in zip(v.strides, sizes, strict=False)]
    strides |= outs
    return " ".join(begin) + walk("batch", form.batch, strides, word)


# Tiles


def _padding(form: Form) -> int:
    """Numbers between rows of a tile, so that rows lie in other banks of memory."""
    return 8 if form.dtype.itemsize == 2 else 1


def _tile(form: Form, size: Any) -> tuple[int, int, int]:
    """Rows and columns of a block's tiles, and its bytes of shared memory."""
    shapes = [(64, 64), (64, 32), (32, 32), (32, 16), (16, 16)]
    if size is _backward_bytes and sum(form.padded) > 128:
        del shapes[0]  # a thread's registers do not hold more
    found = [(*shape, size(form, *shape)) for shape in shapes]
    good = [f for f in found if f[2] <= _GOOD_BYTES]
    fits = good or [f for f in found if f[2] <= _SHARED_BYTES]
    return fits[0]


def _forward_bytes(form: Form, rows: int, columns: int) -> int:
    (width, depth), pad = form.padded, _padding(form)
    cells = (rows + columns) * (width + pad) + columns * (depth + pad) + rows * (columns + pad)
    return cells * form.dtype.itemsize


def _backward_bytes(form: Form, rows: int, columns: int) -> int:
    (width, depth), pad = form.padded, _padding(form)
    cells = (rows + columns) * (width + depth + 2 * pad)
    return (cells + rows * (columns + pad)) * form.dtype.itemsize
