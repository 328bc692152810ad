"""Loops over single numbers as one function: what they carry stays in registers from step to step.

``i64 NAME(args, limit)`` runs at most `limit` steps. `args` points to words: pointers to the
constants of the condition, those of the body, the carries, the stacked inputs and the stacked
outputs; the numbers that the code names, as bits; and, of a scan, the place of the next step, how
many are left, and for each stacked array the bytes from a row to the next. It leaves the carries
where they were, and returns 1 where steps are left.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu import layout, ops
from fgrad.backends.cpu.memory import Address, load
from fgrad.backends.cpu.memory import store as write
from fgrad.backends.cpu.render import Function
from fgrad.backends.cpu.sequence import runs_compiled
from fgrad.backends.cpu.text import Builder
from fgrad.compile.cost import cost
from fgrad.compile.kernel import COMPUTED, Compute, Const, DType, Index, Load, Store
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import Buffer, Launch, Loop, Plan, launches_of
from fgrad.core.ir import Literal

_CALL_NS = 1e6  # how long a call of the function may take, until somebody looks for signals
_STEP_NS = 1.0
_INT64 = np.dtype("q")
_SIMPLE = (Load, Const, Index, Compute, Store)


class ScalarLoop(NamedTuple):
    """A loop as a function.

    Attributes:
        text: Its code, without its name.
        globals: What that refers to, by name.
        numbers: Those that the code names, as bits.
        ns: How long a step takes, estimated.
    """

    text: str
    globals: dict[str, str]
    numbers: tuple[int, ...]
    ns: float

    @property
    def limit(self) -> int:
        """The steps of a call."""
        return max(1, int(_CALL_NS / self.ns))

    def function(self, name: str) -> Function:
        """The text of the function."""
        head = f"define i64 @{name}(ptr noalias %args, i64 %limit) #0 {{\nentry:\n"
        return Function(head + self.text + "\n}\n", self.globals)


def scalar_loop(loop: Loop) -> ScalarLoop | None:
    """The function of a loop; None where it is more than kernels over single numbers."""
    if loop.eqn.primitive.name not in ("scan", "while") or not all(map(_is_scalar, loop.plans)):
        return None
    return _Writer(loop).written()


def scalar_loops(plan: Plan) -> Iterator[tuple[Loop, ScalarLoop]]:
    """The loops of a plan, and of loops in it, that are functions."""
    for step in plan.steps:
        if isinstance(step, Loop):
            found = scalar_loop(step)
            if found is not None:
                yield step, found
            elif runs_compiled(step):
                yield from chain.from_iterable(map(scalar_loops, step.plans))


def _is_scalar(plan: Plan) -> bool:
    numbers = all(b.size == 1 and b.dtype in COMPUTED for b in plan.buffers)
    return numbers and not plan.updated and all(map(_is_simple, plan.steps))


def _is_simple(step: object) -> bool:
    """Whether a step is a kernel whose instructions take one number each."""
    return type(step) is Launch and all(
        isinstance(i, _SIMPLE) and not getattr(i, "bounds", ()) for i in step.kernel.body
    )


class _Writer:
    """Writes the function of one loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.scans = loop.eqn.primitive.name == "scan"
        self.body = loop.plans[-1]
        before, consts, carries, xs = (len(g) for g in groups_of(loop, loop.inputs))
        self.before, self.consts, self.carries, self.xs = before, consts, carries, xs
        self.pointers = before + consts + carries + xs + len(self.body.results) - carries
        self.numbers: dict[tuple[int, DType], int] = {}
        self.b = Builder(1)
        self.b.types["%limit"] = ("i64", 1)

    def written(self) -> ScalarLoop:
        """The function."""
        launches = [launch for p in self.loop.plans for s in p.steps for launch in launches_of(s)]
        for launch in launches:
            for instr in launch.kernel.body:
                if isinstance(instr, Const):
                    self._note(instr.value, instr.dtype)
        for r in chain.from_iterable(p.results for p in self.loop.plans):
            if isinstance(r, Literal):
                self._note(r.value, r.aval.dtype)
        self.known = {key: self._load(self.pointers + i, key[1]) for key, i in self.numbers.items()}
        (self._scan if self.scans else self._while)()
        ns = _STEP_NS + sum(cost(launch.kernel).ns for launch in launches)
        bits = tuple(bits for bits, _ in self.numbers)
        return ScalarLoop("\n".join(self.b.lines), self.b.globals, bits, ns)

    # ------------------------------------------------------------------------------ numbers

    def _note(self, value: Any, dtype: DType) -> None:
        if layout.special(value, dtype) is None:
            key = layout.number_bits(value, dtype), dtype
            self.numbers.setdefault(key, len(self.numbers))

    def _number(self, value: Any, dtype: DType) -> str:
        special = layout.special(value, dtype)
        if special is None:
            return self.known[layout.number_bits(value, dtype), dtype]
        return self.b.named(special, ops.scalar_of(dtype))

    def _word(self, i: int) -> str:
        """The address of a word."""
        return self.b.offset("%args", i, "i64")

    def _load(self, i: int, dtype: DType) -> str:
        """A number that is in a word."""
        return load(self.b, dtype, Address(self._word(i)))

    def _pointer(self, i: int) -> str:
        return self.b.emit(f"load ptr, ptr {self._word(i)}", "ptr")

    def _given(self, first: int, buffers: Sequence[Buffer]) -> list[str]:
        """The numbers that pointers from `first` on point to."""
        return [
            load(self.b, buffer.dtype, Address(self._pointer(first + k)))
            for k, buffer in enumerate(buffers)
        ]

    def _results(self, plan: Plan, inputs: Sequence[str]) -> list[str]:
        """The results of a plan."""
        b = self.b
        values = dict(enumerate(inputs))
        for step in plan.steps:
            assert isinstance(step, Launch)
            kernel, found = step.kernel, list[str]()
            for instr in kernel.body:
                match instr:
                    case Load(operand=o):
                        found.append(values[step.buffers[o]])
                    case Const(value=value, dtype=dtype):
                        found.append(self._number(value, dtype))
                    case Index(dtype=dtype):
                        found.append(b.named(0, ops.scalar_of(dtype)))
                    case Compute(op=op, args=args, dtype=dtype):
                        kinds = [kernel.body[a].dtype for a in args]  # type: ignore[union-attr]
                        found.append(ops.emit(b, op, [found[a] for a in args], kinds, dtype))
                    case Store(operand=o, arg=arg):
                        values[step.buffers[o]] = found[arg]
                        found.append("")
        return [
            self._number(r.value, r.aval.dtype) if isinstance(r, Literal) else values[r]
            for r in plan.results
        ]

    # -------------------------------------------------------------------------------- loops

    def _carried(self, first: Sequence[str]) -> list[int]:
        """Begin the loop; the lines that are to say what its variables are."""
        b = self.b
        self.entry = b.block
        b.effect("br label %loop")
        b.start("loop")
        at = len(b.lines)
        self.first = list(first)
        self.state = [b.emit("", *b.types[x]) for x in first]
        return list(range(at, at + len(first)))

    def _close(self, lines: Sequence[int], following: Sequence[str]) -> None:
        """Say what the variables are, from the block that jumps back."""
        b = self.b
        for at, name, x, y in zip(lines, self.state, self.first, following, strict=True):
            pairs = f"[ {x}, %{self.entry} ], [ {y}, %{b.block} ]"
            b.lines[at] = f"  {name} = phi {b.type_of(name)} {pairs}"

    def _leave(self, label: str, carries: Sequence[str], status: int) -> None:
        """A block that stores the carries and returns."""
        b = self.b
        b.start(label)
        first = self.before + self.consts
        for k, x in enumerate(carries):
            dtype = self.body.buffers[self.consts + k].dtype
            write(b, dtype, Address(self._pointer(first + k)), x)
        b.effect(f"ret i64 {status}")

    def _while(self) -> None:
        b, n = self.b, self.carries
        test = self.loop.plans[0]
        ahead = self._given(0, test.buffers[: self.before])
        consts = self._given(self.before, self.body.buffers[: self.consts])
        init = self._given(self.before + self.consts, self.body.buffers[self.consts :][:n])
        lines = self._carried([*init, b.named(0, "i64")])
        carries = self.state[:n]
        (flag,) = self._results(test, [*ahead, *carries])
        b.effect(f"br i1 {flag}, label %step, label %done")
        b.start("step")
        following = self._results(self.body, [*consts, *carries])
        count = b.binary("add", self.state[n], 1)
        more = b.icmp("slt", count, "%limit")
        self._close(lines, [*following, count])
        b.effect(f"br i1 {more}, label %loop, label %paused")
        self._leave("paused", following, 1)
        self._leave("done", carries, 0)

    def _scan(self) -> None:
        b, n, body = self.b, self.carries, self.body
        consts = self._given(0, body.buffers[: self.consts])
        init = self._given(self.consts, body.buffers[self.consts :][:n])
        rows = range(self.consts + n, self.pointers)
        place = self.pointers + len(self.numbers)
        bases = [self._pointer(i) for i in rows]
        bytes_ = [self._load(place + 2 + k, _INT64) for k in range(len(rows))]
        lines = self._carried([
            *init, b.named(0, "i64"), self._load(place, _INT64), self._load(place + 1, _INT64)
        ])  # fmt: skip
        *carries, done, at, left = self.state
        address = [
            Address(b.offset(p, b.binary("mul", at, size), "i8"))
            for p, size in zip(bases, bytes_, strict=True)
        ]
        seen = body.buffers[self.consts + n : body.inputs]
        xs = [load(b, x.dtype, a) for x, a in zip(seen, address, strict=False)]
        following = self._results(body, [*consts, *carries, *xs])
        for r, x, a in zip(body.results[n:], following[n:], address[self.xs :], strict=True):
            dtype = r.aval.dtype if isinstance(r, Literal) else body.buffers[r].dtype
            write(b, dtype, a, x)
        count = b.binary("add", done, 1)
        after = b.binary("add", at, -1 if self.loop.eqn.params["reverse"] else 1)
        rest = b.binary("sub", left, 1)
        some = b.icmp("sgt", rest, 0)
        more = b.binary("and", b.icmp("slt", count, "%limit"), some)
        self._close(lines, [*following[:n], count, after, rest])
        b.effect(f"br i1 {more}, label %loop, label %stop")
        b.start("stop")
        write(b, _INT64, Address(self._word(place)), after)
        write(b, _INT64, Address(self._word(place + 1)), rest)
        b.effect(f"br i1 {some}, label %paused, label %done")
        self._leave("paused", following[:n], 1)
        self._leave("done", following[:n], 0)
