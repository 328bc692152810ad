"""Eigenvalues and singular values on the device, by kernels of our own."""

from collections.abc import Sequence
from string import Template

import numpy as np

from fgrad.backends.cuda.calls import INPUT, OUTPUT, KernelCall, LibraryPlan, Place
from fgrad.backends.cuda.eig_text import EIG, LEFT, RIGHT
from fgrad.backends.cuda.factorization import Room, Stack, copied, stack_of
from fgrad.backends.cuda.factorization_text import NUMBERS
from fgrad.backends.cuda.spectral_text import EIGH, ROTATIONS, SVD, VECTORS
from fgrad.backends.cuda.texts import THREADS, Words, named, type_of
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, View
from fgrad.core import dtypes

_TURN = np.dtype("V32")  # a rotation: two float64 and a number
_INTEGER, _DOUBLE = np.dtype(np.int32), np.dtype(np.float64)


def eigh(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes eigenvectors and eigenvalues, which rise."""
    s, room = stack_of(step), Room()
    if not step.eqn.outputs[0].aval.size:
        return LibraryPlan("eigenvalues of no elements", ())
    size = s.many * s.rows * s.rows
    x, a, v = room.take(size, s.dtype), room.take(size, _wide(s)), room.take(size, _wide(s))
    turns = room.take(s.many * (s.rows + 1) // 2 + s.many, _TURN)
    places = (x, a, v, turns, Place(OUTPUT, 0), Place(OUTPUT, 1))
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), x),
        _call("eigh", EIGH, s, places, {"N": s.rows}, {"LOWER": int(step.eqn.params["lower"])}),
    )
    return LibraryPlan("eigenvalues by rotations", calls, room.used)


def svd(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes singular values, which fall, and where asked for both sides' vectors."""
    s, room, params = stack_of(step), Room(), step.eqn.params
    if not any(v.aval.size for v in step.eqn.outputs):
        return LibraryPlan("singular values of no elements", ())
    is_wide = s.rows < s.columns
    tall, short = max(s.rows, s.columns), min(s.rows, s.columns)
    has_vectors = params["compute_uv"]
    kept = (tall if params["full_matrices"] else short) if has_vectors else 0
    x, a = (room.take(s.many * tall * short, t) for t in (s.dtype, _wide(s)))
    v, left = (room.take(s.many * n, _wide(s)) for n in (short * short, tall * kept))
    norms, places = (room.take(s.many * short, t) for t in (_DOUBLE, _INTEGER))
    outs = [Place(OUTPUT, i) for i in range(len(step.eqn.outputs))]
    flags: dict[str, str | int] = {"WIDE": int(is_wide), "OUTS": "", "VECTORS": ""}
    sizes = {"M": tall, "N": short, "KEPT": kept}
    if has_vectors:
        t = type_of(s.dtype)
        flags |= {"OUTS": f", {t}* p_u, {t}* p_vh", "VECTORS": VECTORS}
        u, vh = (out.aval.shape[-2] * out.aval.shape[-1] for out in step.eqn.outputs[1:])
        sizes |= {"U_SIZE": u, "VH_SIZE": vh}
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), x),
        _call("svd", SVD, s, (x, a, v, left, norms, places, *outs), sizes, flags),
    )
    return LibraryPlan("singular values by rotations", calls, room.used)


def eig(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes the eigenvalues of general matrices and, where asked for, vectors."""
    s, room, params = stack_of(step), Room(), step.eqn.params
    if not step.eqn.outputs[0].aval.size:
        return LibraryPlan("eigenvalues of no elements", ())
    size, complex_ = s.many * s.rows * s.rows, np.dtype(np.complex128)
    places = [room.take(size, s.dtype), *(room.take(size, complex_) for _ in range(4))]
    x, *rest, full = places
    outs = [Place(OUTPUT, i) for i in range(len(step.eqn.outputs))]
    out = type_of(step.eqn.outputs[0].aval.dtype)
    asked = [
        (name, text)
        for name, text in (("left", LEFT), ("right", RIGHT))
        if params[f"compute_{name}_eigenvectors"]
    ]
    pointers = "".join(f", {out}* p_{name}" for name, _ in asked)
    flags: dict[str, str | int] = {
        "OUT": out, "OUTS": f", fgl_z* p_full{pointers}" if asked else "",
        "VECTORS": "".join(text for _, text in asked),
    }  # fmt: skip
    given = (x, *rest, outs[0], *((full, *outs[1:]) if asked else ()))
    calls = (
        copied(views[0], s.dtype, Place(INPUT, 0), x),
        _call("eig", EIG, s, given, {"N": s.rows}, flags),
    )
    return LibraryPlan("eigenvalues by QR steps", calls, room.used)


def _wide(s: Stack) -> DType:
    """The dtype computed in."""
    return np.dtype(np.complex128) if s.dtype.kind == "c" else _DOUBLE


def _call(
    kind: str, text: Template, s: Stack, places: Sequence[Place], sizes: dict[str, int],
    flags: dict[str, str | int],
) -> KernelCall:  # fmt: skip
    word = Words()
    fields: dict[str, str | int] = {name: word(n) for name, n in sizes.items()}
    fields |= {
        "C": type_of(_wide(s)), "T": type_of(s.dtype), "R": type_of(dtypes.real_dtype(s.dtype)),
        "COUNT": len(sizes),
    }  # fmt: skip
    inner = Template(text.safe_substitute(flags))  # a flag may be a part of the text
    name, source = named(kind, NUMBERS + ROTATIONS + inner.substitute(fields | flags))
    return KernelCall(
        name, source, (s.many, 1, 1), (THREADS, 1, 1), tuple(places), bytes(word)
    )  # fmt: skip
