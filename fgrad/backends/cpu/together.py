"""The LLVM text of what runs several kernels as one: `many` and `many_combine`.

Their first argument points to a table of words: how many kernels there are, and how many arguments
come before the words of the launch; then a `Member` for each kernel, and one more whose `START`s
are the totals; then the words of all kernels. The arguments that follow are the operands of the
first kernel, of the second, ….
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np


class Member(IntEnum):
    """The words of a kernel in the table."""

    KERNEL = 0  # its address
    COMBINE = 1  # of the function that combines its partial results, or 0
    OPERAND = 2  # which argument is its first operand
    OPERANDS = 3
    WORD = 4  # where its words are in the table
    WORDS = 5
    SHARED = 6  # where its part of the scratch memory that all threads share begins, in bytes
    START = 7  # the number of units of all kernels before it
    COMBINE_START = 8
    SIZE = 9


_HEAD = 2


class Part(NamedTuple):
    """A kernel of several.

    Attributes:
        kernel: The address of its code.
        combine: Likewise, of the function that combines its partial results, or 0.
        operands: How many it has.
        words: What it takes after its operands.
        units: Its units of work.
        combine_units: Those of `combine`.
        shared_bytes: The scratch memory that its threads share.
        thread_bytes: Likewise, of each thread alone.
    """

    kernel: int
    combine: int
    operands: int
    words: Sequence[int]
    units: int
    combine_units: int
    shared_bytes: int
    thread_bytes: int


def scratch_of(parts: Sequence[Part]) -> tuple[int, int]:
    """The scratch memory of kernels that run together: what all threads share, and of each."""
    return sum(p.shared_bytes for p in parts), max(p.thread_bytes for p in parts)


def table(parts: Sequence[Part]) -> Any:
    """The table of some kernels, an array of int64."""
    heads: list[int] = []
    words: list[int] = []
    first = _HEAD + (len(parts) + 1) * Member.SIZE
    operand, shared, start, combine_start = 1, 0, 0, 0
    for p in parts:
        heads += [p.kernel, p.combine, operand, p.operands, first + len(words), len(p.words),
                  shared, start, combine_start]  # fmt: skip
        words += p.words
        operand += p.operands
        shared += p.shared_bytes
        start += p.units
        combine_start += p.combine_units
    heads += [0] * Member.START + [start, combine_start]
    return np.array([len(parts), operand, *heads, *words], np.int64)


NAMES = ("fgrad_many", "fgrad_many_combine")

_TEXT = """
define internal void @member(ptr %args, ptr %table, ptr %head, ptr %code, i64 %lo, i64 %hi)
    noinline {{
entry:
  %n = call i64 @word(ptr %head, i64 {M.OPERANDS})
  %first = call i64 @word(ptr %head, i64 {M.OPERAND})
  %w = call i64 @word(ptr %head, i64 {M.WORD})
  %count = call i64 @word(ptr %head, i64 {M.WORDS})
  %shift = call i64 @word(ptr %head, i64 {M.SHARED})
  %all = add i64 %n, %count
  %mine = alloca i64, i64 %all, align 64
  %from = getelementptr i64, ptr %args, i64 %first
  %pointers = shl i64 %n, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %mine, ptr %from, i64 %pointers, i1 false)
  %to = getelementptr i64, ptr %mine, i64 %n
  %words = getelementptr i64, ptr %table, i64 %w
  %bytes = shl i64 %count, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %words, i64 %bytes, i1 false)
  %operands = call i64 @word(ptr %table, i64 1)
  %scratch = getelementptr i64, ptr %args, i64 %operands
  %shared = load i64, ptr %scratch
  %part = add i64 %shared, %shift
  store i64 %part, ptr %to
  %own = call i64 @word(ptr %scratch, i64 1)
  %second = getelementptr i64, ptr %to, i64 1
  store i64 %own, ptr %second
  call void %code(ptr %mine, i64 %lo, i64 %hi)
  ret void
}}

define internal void @several(ptr %args, i64 %lo, i64 %hi, i64 %which, i64 %starts) {{
entry:
  %table = load ptr, ptr %args
  %count = call i64 @word(ptr %table, i64 0)
  br label %loop
loop:
  %m = phi i64 [0, %entry], [%m1, %next]
  %more = icmp slt i64 %m, %count
  br i1 %more, label %look, label %end
look:
  %m1 = add i64 %m, 1
  %at = mul i64 %m, {M.SIZE}
  %at0 = add i64 %at, {head}
  %head = getelementptr i64, ptr %table, i64 %at0
  %after = getelementptr i64, ptr %head, i64 {M.SIZE}
  %start = call i64 @word(ptr %head, i64 %starts)
  %stop = call i64 @word(ptr %after, i64 %starts)
  %a = call i64 @llvm.smax.i64(i64 %lo, i64 %start)
  %b = call i64 @llvm.smin.i64(i64 %hi, i64 %stop)
  %some = icmp slt i64 %a, %b
  br i1 %some, label %run, label %next
run:
  %c = call i64 @word(ptr %head, i64 %which)
  %code = inttoptr i64 %c to ptr
  %from = sub i64 %a, %start
  %to = sub i64 %b, %start
  call void @member(ptr %args, ptr %table, ptr %head, ptr %code, i64 %from, i64 %to)
  br label %next
next:
  br label %loop
end:
  ret void
}}

define void @fgrad_many(ptr %args, i64 %lo, i64 %hi) {{
  call void @several(ptr %args, i64 %lo, i64 %hi, i64 {M.KERNEL}, i64 {M.START})
  ret void
}}

define void @fgrad_many_combine(ptr %args, i64 %lo, i64 %hi) {{
  call void @several(ptr %args, i64 %lo, i64 %hi, i64 {M.COMBINE}, i64 {M.COMBINE_START})
  ret void
}}

declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
"""


class _Numbers:
    """The members of `Member` as plain numbers, for `str.format`."""

    def __init__(self) -> None:
        self.__dict__.update({m.name: int(m) for m in Member})


def text() -> str:
    """The LLVM text, for a module that defines `word`."""
    return _TEXT.format(M=_Numbers(), head=_HEAD)
