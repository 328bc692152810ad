"""Einstein summation."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy.diagonals import last_diagonal
from fgrad.numpy.products import contract
from fgrad.numpy.promotion import promote

__all__ = [
    "einsum",
    "einsum_path",
]


def _parse(name: str, operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """A subscripts string without ellipses' short forms, and the operands."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def word(axes: Sequence[Any]) -> str:
        return "".join("..." if a is Ellipsis else letters[operator.index(a)] for a in axes)

    pairs = len(operands) // 2
    inputs = ",".join(word(operands[2 * i + 1]) for i in range(pairs))
    tail = "->" + word(operands[-1]) if len(operands) % 2 else ""
    if not pairs:
        raise ShapeError(f"{name} needs at least one operand")
    return inputs + tail, [operands[2 * i] for i in range(pairs)]


def _expand(name: str, subscripts: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Explicit subscripts: ellipses become letters, and the output is spelt out."""
    inputs, arrow, output = subscripts.partition("->")
    words = inputs.split(",")
    if len(words) != len(ranks):
        raise ShapeError(
            f"{name}: the subscripts {subscripts!r} name {len(words)} operands, got {len(ranks)}"
        )
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba"
            if c not in subscripts]  # fmt: skip
    extra = 0
    for word, rank in zip(words, ranks, strict=True):
        named = len(word.replace("...", ""))
        if named > rank or ("..." not in word and named != rank):
            raise ShapeError(
                f"{name}: {word!r} in {subscripts!r} does not fit an operand with {rank} axes"
            )
        if "..." in word:
            extra = max(extra, rank - named)
    dots = "".join(reversed(free[:extra]))
    full = []
    for word, rank in zip(words, ranks, strict=True):
        count = rank - len(word.replace("...", ""))
        full.append(word.replace("...", dots[extra - count :] if count else ""))
    if arrow:
        result = output.replace("...", dots)
    else:
        joined = "".join(words).replace(".", "")
        once = sorted(c for c in set(joined) if joined.count(c) == 1)
        result = dots + "".join(once)
    missing = set(result) - set("".join(full))
    if missing or len(set(result)) != len(result):
        raise ShapeError(
            f"{name}: the output {output!r} of {subscripts!r} must name each index once, and only "
            f"indices of the operands"
        )
    return full, result


def einsum(
    subscripts: Any, /, *operands: Any, out: None = None, optimize: Any = "auto",
    precision: Any = None, preferred_element_type: Any = None,
) -> Value:  # fmt: skip
    """Einstein summation: products summed over the indices that the result does not name.

    Args:
        subscripts: Such as ``"bij,bjk->bik"``; or operands and lists of axes in turn.
        *operands: The arrays.
        out: Not supported.
        optimize: The order of pairs: a strategy of opt_einsum, or False for left to right.
        precision: How float32 products are computed; None is full float32.
        preferred_element_type: Dtype of the result and of the accumulation.

    Raises:
        ShapeError: The subscripts do not fit the operands.

    Example:
        >>> einsum("i,i->", np.ones(3, np.float32), np.ones(3, np.float32))
        Array(3., dtype=float32)
    """
    del out
    text, arrays = _parse("einsum", (subscripts, *operands))
    xs = promote("einsum", *arrays)
    words, result = _expand("einsum", text, [x.ndim for x in xs])
    lengths: dict[str, int] = {}
    for word, x in zip(words, xs, strict=True):
        for c, n in zip(word, x.shape, strict=True):
            if lengths.setdefault(c, n) == 1:
                lengths[c] = n
            elif n not in (1, lengths[c]):
                raise ShapeError(
                    f"einsum: index {c!r} of {text!r} has the lengths {lengths[c]} and {n} in "
                    f"operands {', '.join(str(v.aval) for v in xs)}"
                )
    terms = [_tidy(w, x, lengths) for w, x in zip(words, xs, strict=True)]
    for pair in _path(terms, result, lengths, optimize):
        chosen = [terms.pop(i) for i in sorted(pair, reverse=True)][::-1]
        kept = set(result).union(*(w for w, _ in terms))
        while len(chosen) > 1:
            inner_kept = kept.union(*(w for w, _ in chosen[2:]))
            chosen[:2] = [
                _pair(*chosen[0], *chosen[1], inner_kept, precision, preferred_element_type)
            ]
        terms.append(chosen[0])
    return _finish(*terms[0], result, lengths)


def _tidy(word: str, x: Value, lengths: dict[str, int]) -> tuple[str, Value]:
    """Repeated indices taken along their diagonal; axes of length 1 that broadcast dropped."""
    for c in dict.fromkeys(word):
        while word.count(c) > 1:
            i = word.index(c)
            j = word.index(c, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(f"einsum: index {c!r} has the lengths {x.shape[i]}, {x.shape[j]}")
            x = basis.moveaxis(basis.moveaxis(x, j, x.ndim - 1), i, x.ndim - 2)
            x = last_diagonal(x)
            word = word.replace(c, "") if word.count(c) == 2 else (
                word[:i] + word[i + 1 : j] + word[j + 1 :])  # fmt: skip
            word += c
    wide = [k for k, c in enumerate(word) if not (x.shape[k] == 1 and lengths[c] != 1)]
    if len(wide) != len(word):
        x = basis.reshape(x, tuple(x.shape[k] for k in wide))
        word = "".join(word[k] for k in wide)
    return word, x


def _path(
    terms: Sequence[tuple[str, Value]], result: str, lengths: dict[str, int], optimize: Any
) -> list[tuple[int, ...]]:
    count = len(terms)
    if count == 1:
        return [(0,)]
    if count == 2 or optimize is False:
        return [(0, count - 1 - k) if k else (0, 1) for k in range(count - 1)]
    if isinstance(optimize, list | tuple):
        return [tuple(p) for p in optimize if p != "einsum_path"]
    import opt_einsum

    strategy = "auto" if optimize in (True, "auto") else optimize
    views = [tuple(lengths[c] for c in w) for w, _ in terms]
    text = ",".join(w for w, _ in terms) + "->" + result
    return list(opt_einsum.contract_path(text, *views, shapes=True, optimize=strategy)[0])


def _summed(word: str, x: Value, kept: set[str]) -> tuple[str, Value]:
    gone = tuple(i for i, c in enumerate(word) if c not in kept)
    return "".join(c for c in word if c in kept), basis.reduce_sum(x, gone)


def _pair(
    w1: str, x: Value, w2: str, y: Value, kept: set[str], precision: Any, preferred: Any
) -> tuple[str, Value]:
    """One product of two terms, summed over what nothing else needs."""
    w1, x = _summed(w1, x, kept | set(w2))
    w2, y = _summed(w2, y, kept | set(w1))
    common = [c for c in w1 if c in w2]
    batch = [c for c in common if c in kept]
    over = [c for c in common if c not in kept]
    dims = (
        (tuple(w1.index(c) for c in over), tuple(w2.index(c) for c in over)),
        (tuple(w1.index(c) for c in batch), tuple(w2.index(c) for c in batch)),
    )
    rest = [c for c in w1 + w2 if c not in common]
    return "".join(batch + rest), contract(x, y, dims, precision, preferred)


def _finish(word: str, x: Value, result: str, lengths: dict[str, int]) -> Value:
    word, x = _summed(word, x, set(result))
    x = basis.transpose(x, tuple(word.index(c) for c in result if c in word))
    places = tuple(i for i, c in enumerate(result) if c in word)
    return basis.broadcast_in_dim(x, tuple(lengths[c] for c in result), places)


def einsum_path(subscripts: Any, /, *operands: Any, optimize: Any = "greedy") -> tuple[Any, str]:
    """The order in which `einsum` forms pairs, and a report of its cost."""
    import opt_einsum

    text, arrays = _parse("einsum_path", (subscripts, *operands))
    shapes = [np.shape(a) for a in arrays]
    path, info = opt_einsum.contract_path(text, *shapes, shapes=True, optimize=optimize)
    return ["einsum_path", *path], str(info)
