"""Tapes: what a loop does, as a list of numbers.

A tape is a list of 64-bit words: instructions (`Op`), each followed by its operands. It works on a
*frame*, memory of one call: words first (`Frame`, then pointers, counters, and the arguments of
kernels), then the temporaries of the loop. Operands name words of the frame; jumps name words of
the tape. A call copies the image of the frame, adds the frame's address to the words that point
into it, and stores the pointers of its operands; so any number of threads may run one tape.

What runs them is in `interpreter`, one function for all: a loop needs no code of its own beside
its kernels.
"""

from enum import IntEnum
from typing import Any, NamedTuple


class Tape(IntEnum):
    """The words that describe a tape."""

    CONTEXT = 0  # the address of a `runtime.Context`
    CODE = 1  # of the instructions
    IMAGE = 2  # of what the frame starts with
    IMAGE_BYTES = 3
    MOVING = 4  # of the numbers of the words to which the frame's address is added
    MOVING_COUNT = 5
    RELEASE = 6  # whether other Python threads may run meanwhile
    SIZE = 7


class Frame(IntEnum):
    """The first words of a frame."""

    BUDGET = 0  # nanoseconds, estimated, until somebody looks for signals again
    OPERANDS = 1  # pointers to what the loop reads and writes


class Op(IntEnum):
    """The instructions; each is followed by the operands that are listed."""

    END = 0
    LAUNCH = 1  # length, kernel, arguments, units, chunk, combine, its units, spin, words, private,
    #             bytes of each thread, count, then (argument, word of its pointer) for each
    GEMM = 2  # function, parameters, words of A, B, C, their offsets, count, and their strides
    COPY = 3  # to, from, bytes
    MOVE = 4  # count, a place for as many words, then (to, from) for each: all are read first
    ADD = 5  # word, number
    SET = 6  # word, number
    NEXT = 7  # counter, target, cost: count down, and jump unless it is 0
    JUMP = 8  # target, cost
    UNLESS = 9  # word of a pointer to a bool, target
    SWITCH = 10  # word of a pointer to an i32, count, targets
    SAVE = 11  # count, word of a pointer to the steps so far, word of the spacing, how many are
    #            kept, then (stack, carry, bytes) for each: see `lax.control.while_prims`
    ZERO = 12  # word, bytes
    CHECK = 14  # word of a pointer to a bool: leave the tape if it is true
    SMALL = 13  # function, words of A, B, C, their offsets, count, their strides, then rows,
    #             columns, inner size, strides of A, of rows of B, whether to add (see `small`)
    STEPS = 15  # length, function, arguments, limit, cost, count, then the word of each pointer;
    #             again while steps are left (see `scalar_loops`)


class Assembled(NamedTuple):
    """A loop as a tape.

    Attributes:
        code: The instructions.
        image: What the frame starts with.
        moving: The words of it to which the frame's address is added.
        bytes: The size of the frame.
        ns: How long the loop takes, roughly.
        checks: Whether it has checks, which may fail.
        keep: Memory that the tape points to.
    """

    code: Any
    image: Any
    moving: Any
    bytes: int
    ns: float
    checks: bool
    keep: list[Any]


POLL_NS = 20_000_000  # how long a loop runs, roughly, before it looks for signals
