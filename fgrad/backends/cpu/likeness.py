"""The LLVM text of what compares the arrays of a call with those of one before: `fgrad_alike`.

Its table has a `Head`, then for each array an `Item` followed by the length of each axis.
"""

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.evaluate import BORROWED, WEAK, ArrayImpl


class Head(IntEnum):
    """The words at the start of the table."""

    CONTEXT = 0  # as in every block of a builtin
    COUNT = 1  # of the arrays
    SIZE = 2


class Item(IntEnum):
    """The words of an array."""

    FLAGS = 0  # the integer object that its flags may be
    OTHER_FLAGS = 1  # or this one
    DTYPE = 2  # the dtype object
    NDIM = 3
    SIZE = 4


class Slots(NamedTuple):
    """Where an `ArrayImpl` has its fields, in bytes."""

    data: int
    flags: int


def slots(head: int) -> Slots | None:
    """Find the fields of arrays; None where they are not plain pointers that can be told apart.

    Args:
        head: The size of the part that all Python objects share.
    """
    data = np.zeros(3)
    found = []
    for flags in range((WEAK | BORROWED) + 1):
        x = ArrayImpl(data, flags)
        words = range(head, ArrayImpl.__basicsize__, ctypes.sizeof(ctypes.c_void_p))
        held = {at: ctypes.c_void_p.from_address(id(x) + at).value for at in words}
        places = [[at for at, v in held.items() if v == id(y)] for y in (data, flags)]
        if list(map(len, places)) != [1, 1]:
            return None
        found.append(Slots(places[0][0], places[1][0]))
    return found[0] if len(set(found)) == 1 else None


def table(arrays: Sequence[ArrayImpl]) -> Any:
    """The table of arrays that others are compared with, an array of int64; its context is 0."""
    words = [0, len(arrays)]
    for x in arrays:
        weak = x._flags & WEAK
        data = x._data
        words += [id(weak), id(weak | BORROWED), id(data.dtype), data.ndim, *data.shape]
    return np.array(words, np.int64)


TEXT = """
define ptr @fgrad_alike(ptr %self, ptr %given, i64 %count) {{
entry:
  %table = call ptr @data(ptr %self)
  %c = call i64 @word(ptr %table, i64 {H.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %ndarray = call i64 @word(ptr %context, i64 {C.NDARRAY})
  %array = call i64 @word(ptr %context, i64 {C.ARRAY})
  %data.at = call i64 @word(ptr %context, i64 {C.ARRAY_DATA})
  %flags.at = call i64 @word(ptr %context, i64 {C.ARRAY_FLAGS})
  %expected = call i64 @word(ptr %table, i64 {H.COUNT})
  %whole = icmp eq i64 %count, %expected
  %first = getelementptr i64, ptr %table, i64 {H.SIZE}
  br i1 %whole, label %loop, label %end
loop:
  %i = phi i64 [0, %entry], [%i1, %next]
  %item = phi ptr [%first, %entry], [%item1, %next]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %end
look:
  %xp = getelementptr ptr, ptr %given, i64 %i
  %x = load ptr, ptr %xp
  %tp = getelementptr i8, ptr %x, i64 {type}
  %t = load i64, ptr %tp
  %ours = icmp eq i64 %t, %array
  br i1 %ours, label %flagged, label %end
flagged:
  %fp = getelementptr i8, ptr %x, i64 %flags.at
  %f = load i64, ptr %fp
  %f0 = call i64 @word(ptr %item, i64 {I.FLAGS})
  %f1 = call i64 @word(ptr %item, i64 {I.OTHER_FLAGS})
  %is0 = icmp eq i64 %f, %f0
  %is1 = icmp eq i64 %f, %f1
  %is = or i1 %is0, %is1
  br i1 %is, label %held, label %end
held:
  %bp = getelementptr i8, ptr %x, i64 %data.at
  %b = load ptr, ptr %bp
  %kp = getelementptr i8, ptr %b, i64 {type}
  %k = load i64, ptr %kp
  %plain = icmp eq i64 %k, %ndarray
  br i1 %plain, label %typed, label %end
typed:
  %dp = getelementptr i8, ptr %b, i64 {dtype}
  %d = load i64, ptr %dp
  %d0 = call i64 @word(ptr %item, i64 {I.DTYPE})
  %same = icmp eq i64 %d, %d0
  %np = getelementptr i8, ptr %b, i64 {ndim}
  %n = load i32, ptr %np
  %rank = sext i32 %n to i64
  %rank0 = call i64 @word(ptr %item, i64 {I.NDIM})
  %flat = icmp eq i64 %rank, %rank0
  %fits = and i1 %same, %flat
  %sp = getelementptr i8, ptr %b, i64 {shape}
  %shape = load ptr, ptr %sp
  %shape0 = getelementptr i64, ptr %item, i64 {I.SIZE}
  br i1 %fits, label %axes, label %end
axes:
  %a = phi i64 [0, %typed], [%a1, %axis]
  %inside = icmp slt i64 %a, %rank
  br i1 %inside, label %axis, label %next
axis:
  %l = call i64 @word(ptr %shape, i64 %a)
  %l0 = call i64 @word(ptr %shape0, i64 %a)
  %a1 = add i64 %a, 1
  %long = icmp eq i64 %l, %l0
  br i1 %long, label %axes, label %end
next:
  %i1 = add i64 %i, 1
  %item1 = getelementptr i64, ptr %shape0, i64 %rank
  br label %loop
end:
  %found = phi i1 [false, %entry], [true, %loop], [false, %look], [false, %flagged],
    [false, %held], [false, %typed], [false, %axis]
  %told = call ptr @answer(ptr %context, i1 %found)
  ret ptr %told
}}
"""
