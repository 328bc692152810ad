"""A plan as one Python function: a line a step, over memory that is known beforehand.

Temporaries of kernels and products are views of an arena, made once for each arena; results are
fresh. The text can be read: `Executable.source`.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu.arrays import copied, duplicate, prepare, settle, strided
from fgrad.backends.cpu.binding import Binder, function_of, run_in_own, run_in_slab
from fgrad.backends.cpu.blocks import LEAST_BYTES, blocks, not_sole
from fgrad.backends.cpu.functions import sole
from fgrad.backends.cpu.nested import identifier, is_host, made_by_rules, rule_of, workspaces
from fgrad.backends.cpu.products import product_of
from fgrad.compile.memory import Memory, last_uses, plan_memory
from fgrad.compile.plan import (
    INPUT,
    RESULT,
    TEMP,
    Batch,
    Buffer,
    Launch,
    Library,
    Plan,
    Step,
    View,
    contiguous,
    equations_of,
    is_check,
    launches_of,
    writes_of,
)
from fgrad.compile.shortage import shortage
from fgrad.compile.updates import is_idle
from fgrad.core.errors import FgradError, OutOfMemoryError, ShapeError
from fgrad.core.ir import Jaxpr, Literal

_MANY = 8  # arrays; from here on they are first looked at together
_OWN_ARENA = 64 << 10  # up to here a program keeps arenas of its own rather than looking one up


class Loaded(NamedTuple):
    """A kernel that can run.

    Attributes:
        call: Takes one array an operand, then scratch memory if it needs any.
        scratch_bytes: The scratch memory.
        keep: What must live as long as `call`.
        over: Of a library step: whether its result may lie where its first operand does.
    """

    call: Callable[..., Any]
    scratch_bytes: int = 0
    keep: Any = None
    over: bool = False


class Executable:
    """A program ready to run on arrays.

    Args:
        optimized: Gives what it computes; its equations are what the kernels name.
        plan: Its steps.
        loaded: A kernel for each `Launch`, in order; `None` for other steps.
        ready: Whether all of some arrays are contiguous and aligned.
        donated: Inputs whose memory results may take over.
        mark: Called before the first step and after each, to measure them; None: not called.
        replayed: Whether its plan was decided for other sizes.

    Attributes:
        replayed: As given.
        plan: As given.
        memory: Where temporaries lie.
        source: The Python text that runs.
        run: Takes the inputs, which are of the right types, and returns the list of results.
        fresh: Whether results never share memory with inputs, but for those in `taken`.
        taken: Inputs whose memory results take over: the caller gives them away (see `own`).
        silent: Whether all steps are kernels, so that NumPy cannot warn of overflows.
    """

    __slots__ = (
        "__weakref__", "_code", "_first", "_lines", "_optimized", "fresh", "memory", "plan",
        "replayed", "run", "silent", "source", "taken",
    )  # fmt: skip

    def __init__(
        self, optimized: Callable[[], Jaxpr], plan: Plan, loaded: Sequence[Loaded | None],
        ready: Callable[..., bool], donated: Collection[int] = (),
        mark: Callable[[], object] | None = None, *, replayed: bool = False,
    ) -> None:  # fmt: skip
        self._optimized, self.plan, self.replayed = optimized, plan, replayed
        scratch = {i: k.scratch_bytes for i, k in enumerate(loaded) if k is not None}
        self.memory = plan_memory(
            plan,
            scratch=scratch,
            elsewhere=made_by_rules(plan, loaded),
            donated=donated,
            workspace=workspaces(plan, loaded),
            over={i for i, k in enumerate(loaded) if k is not None and k.over},
        )
        returned = [r for r in donated if plan.results.count(r) == 1]
        self.taken = frozenset([*self.memory.taken.values(), *returned])
        writer = _Writer(plan, self.memory, loaded, ready, self.taken, mark)
        self.source = writer.text()
        self.fresh = writer.fresh
        steps = zip(loaded, plan.steps, strict=True)
        self.silent = all(kernel is not None or is_check(step) for kernel, step in steps)
        self._lines, self._first = writer.step_of_line, writer.first
        names = writer.constants
        function = function_of(self.source, names, f"<fgrad program {id(self):x}>")
        self._code = function.__code__
        size = self.memory.arena_bytes
        self.run: Callable[..., list[Any]] = function
        if writer.views:
            bind = Binder(self._code, names, writer.views)
            own = size <= _OWN_ARENA
            self.run = functools.partial(run_in_own if own else run_in_slab, bind, size)

    @property
    def jaxpr(self) -> Jaxpr:
        """What it computes."""
        return self._optimized()

    def __call__(self, xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
        """Run on arrays whose types are not known to fit; they are checked."""
        if xp is not np:
            raise FgradError(f"a program for the CPU got arrays of {xp.__name__}")
        for buffer, x in zip(self.plan.buffers, arrays, strict=False):
            if x.shape != buffer.shape or x.dtype != buffer.dtype:
                raise ShapeError(
                    f"a compiled program takes {buffer.dtype.name}{list(buffer.shape)}, got "
                    f"{x.dtype.name}{list(x.shape)}"
                )
        try:
            return self.run(*arrays)
        except MemoryError as error:
            self.explain(error)
            raise OutOfMemoryError(self.shortage()) from error
        except Exception as error:
            self.explain(error)
            raise

    def own(self, arrays: list[Any], given: Collection[int], references: int) -> None:
        """Copy those of the inputs in `taken` that are not the caller's to give away.

        Args:
            arrays: The inputs; copies replace them.
            given: The inputs that the caller gives away.
            references: How many it has to each, the list among them.
        """
        taken = self.taken
        if len(taken) >= _MANY and taken.issubset(given):
            alone = sole(references)
            if alone is not None and alone(*map(arrays.__getitem__, taken)):
                return
        for i in not_sole(arrays, taken, given, references):
            arrays[i] = duplicate(arrays[i])

    def began(self, error: BaseException) -> bool:
        """Whether an error arose in a step, so that what was given away may be overwritten."""
        cause: BaseException | None = error
        while cause is not None:
            frame = cause.__traceback__
            while frame is not None:
                if frame.tb_frame.f_code is self._code and frame.tb_lineno >= self._first:
                    return True
                frame = frame.tb_next
            cause = cause.__cause__
        return False

    def shortage(self) -> str:
        """What to say when there is no memory for a call."""
        return shortage(self.jaxpr, self.plan, self.memory)

    def explain(self, error: Exception) -> None:
        """Add the equation and the user's line to an error, once."""
        if any(n.startswith("fgrad: in") for n in getattr(error, "__notes__", ())):
            return
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code is self._code and frame.tb_lineno in self._lines:
                for eqn in equations_of(self.jaxpr, self._lines[frame.tb_lineno])[:1]:
                    types = ", ".join(str(a.aval) for a in eqn.inputs)
                    error.add_note(
                        f"fgrad: in {eqn.primitive.name}({types}), asked for at {eqn.source}"
                    )
            frame = frame.tb_next


class _Writer:
    """Writes the text; functions, constants and parameters become globals of it."""

    def __init__(
        self, plan: Plan, memory: Memory, loaded: Sequence[Loaded | None],
        ready: Callable[..., bool], taken: Collection[int],
        mark: Callable[[], object] | None,
    ) -> None:  # fmt: skip
        self.plan, self.memory, self.loaded, self.taken = plan, memory, loaded, taken
        self.constants: dict[str, Any] = {
            "np": np, "empty": np.empty, "block": blocks().empty, "ready": ready,
            "prepare": prepare, "strided": strided, "copy": copied,
            "settle": functools.partial(settle, None),
        }  # fmt: skip
        self.marked = mark is not None
        self.constants["mark"] = mark
        self.views: dict[str, tuple[View, Any, int]] = {}
        self._name_of_view: dict[Any, str] = {}
        self.step_of_line: dict[int, Step] = {}
        self.fresh = True
        self.first = 0  # the line of the first step
        self.allocated: set[int] = set()
        self.lines: list[str] = []

    def constant(self, value: Any, prefix: str) -> str:
        name = f"{prefix}{len(self.constants)}"
        self.constants[name] = value
        return name

    def text(self) -> str:
        plan = self.plan
        inputs = ", ".join(f"b{i}" for i in range(plan.inputs))
        self.lines = [f"def program({inputs}):"]
        if plan.inputs:
            self.line(f"if not ready({inputs}):")
            self.line(f"    {inputs}{',' * (plan.inputs == 1)} = prepare({inputs})")
        dying, places = self.dying(), self.memory.places
        if self.taken:  # no memory for a result: nothing must have been overwritten yet
            elsewhere = made_by_rules(plan, self.loaded)
            for b, buffer in enumerate(plan.buffers):
                if buffer.role == RESULT and b not in elsewhere:
                    self.allocate(b)
        self.mark()
        self.first = len(self.lines) + 1
        for i, step in enumerate(plan.steps):
            if is_idle(step, places):
                self.line("pass")
            elif isinstance(step, Launch | Batch):
                self.launch(i, step)
            elif self.loaded[i] is not None:
                self.loop(i, step)
            elif is_check(step):
                self.check(step)
            else:
                self.library(step)
            self.step_of_line[len(self.lines)] = step
            if i in dying:
                self.line(f"del {', '.join(f'b{b}' for b in dying[i])}")
            self.mark()
        self.line(f"return [{', '.join(map(self.result, plan.results))}]")
        return "\n".join(self.lines) + "\n"

    def line(self, text: str) -> None:
        self.lines.append(f"    {text}")

    def mark(self) -> None:
        if self.marked:
            self.line("mark()")

    def dying(self) -> dict[int, list[int]]:
        """For each step, the temporaries of libraries that nobody reads after it."""
        found: dict[int, list[int]] = {}
        for b, at in sorted(last_uses(self.plan).items()):
            if self.is_local(b):
                found.setdefault(at, []).append(b)
        return found

    def is_local(self, b: int) -> bool:
        """Whether a buffer is a temporary that a library has made."""
        return self.plan.buffers[b].role == TEMP and b not in self.memory.offsets

    def result(self, r: int | Literal) -> str:
        if isinstance(r, Literal):
            return f"copy({self.constant(r.value, 'c')})"
        if self.plan.buffers[r].role == INPUT and r not in self.taken:
            return f"copy({self.name(r)})"
        return self.name(r)

    def name(self, b: int) -> str:
        """What a buffer that is not in the arena is called."""
        return f"b{self.memory.taken.get(b, b)}"

    def launch(self, i: int, step: Launch | Batch) -> None:
        kernel = self.loaded[i]
        assert kernel is not None
        for b in sorted(writes_of(step)):
            if self.plan.buffers[b].role == RESULT:
                self.allocate(b)
        launches = launches_of(step)
        args = [self.whole(b) for launch in launches for b in launch.buffers]
        self.call(i, launches[0].kernel.name, args)

    def loop(self, i: int, step: Library) -> None:
        """A loop that runs as one function."""
        for b in step.outputs:
            if self.plan.buffers[b].role == RESULT:
                self.allocate(b)
        args = [
            self.constant(np.asarray(a.value, a.aval.dtype), "c") if isinstance(a, Literal)
            else self.operand(a)
            for a in step.inputs
        ]  # fmt: skip
        self.call(i, step.eqn.primitive.name, [*args, *map(self.whole, step.outputs)])

    def call(self, i: int, name: str, args: list[str]) -> None:
        """Call what was loaded for a step, with scratch memory behind its arguments."""
        kernel = self.loaded[i]
        assert kernel is not None
        if kernel.scratch_bytes:
            view = View(-1, 0, (kernel.scratch_bytes,), (1,))
            args.append(self.in_arena(view, np.dtype(np.uint8), self.memory.scratch[i]))
        self.constants.setdefault("keep", []).append(kernel.keep)
        name = self.constant(kernel.call, f"{identifier(name)}_")
        self.line(f"{name}({', '.join(args)})")

    def check(self, step: Library) -> None:
        """Raise by the eager rule, where there is anything to raise."""
        flag, *others = map(self.operand, step.inputs)
        rule = self.constant(step.eqn.primitive.eager, "check_bounds_")
        args = [
            flag,
            *others,
            *(f"{k}={self.constant(v, 'p')}" for k, v in step.eqn.params.items()),
        ]
        self.line(f"if {flag}: {rule}(np, {', '.join(args)})")

    def library(self, step: Library) -> None:
        args = [self.operand(a) for a in step.inputs]
        product = product_of(step.eqn)
        if product is not None:
            (out,) = step.outputs
            if self.plan.buffers[out].role == RESULT:
                self.allocate(out)
            name = self.constant(product, "dot_general_")
            self.line(f"{name}({', '.join(args)}, {self.whole(out)})")
            return
        eqn = step.eqn
        if is_host(eqn):  # the user's function may keep what it is given
            args = [f"copy({a})" for a in args]
        rule = self.constant(rule_of(eqn), f"{identifier(eqn.primitive.name)}_")
        args += [f"{k}={self.constant(v, 'p')}" for k, v in eqn.params.items()]
        call = f"{rule}(np{''.join(', ' + a for a in args)})"
        outs = ", ".join(f"b{b}" for b in step.outputs)
        if any(self.plan.buffers[b].role == RESULT for b in step.outputs):
            self.fresh = False  # a rule may return what it was given
        if not eqn.primitive.multiple_results:
            self.line(f"{outs} = settle({call})")
        elif not outs:
            self.line(call)
        else:
            comma = "," * (len(step.outputs) == 1)
            self.line(f"{outs}{comma} = map(settle, {call})")

    def allocate(self, b: int) -> None:
        if b in self.allocated or b in self.memory.taken:
            return
        self.allocated.add(b)
        buffer = self.plan.buffers[b]
        make = "block" if buffer.nbytes >= LEAST_BYTES else "empty"
        shape, dtype = self.constant(buffer.shape, "s"), self.constant(buffer.dtype, "t")
        self.line(f"b{b} = {make}({shape}, {dtype})")

    def whole(self, b: int) -> str:
        """A buffer as an array of its own shape."""
        buffer = self.plan.buffers[b]
        return self.view(View(b, 0, buffer.shape, contiguous(buffer.shape)), buffer)

    def operand(self, a: View | Literal) -> str:
        if isinstance(a, Literal):
            return self.constant(a.value, "c")
        return self.view(a, self.plan.buffers[a.buffer])

    def view(self, view: View, buffer: Buffer) -> str:
        b = view.buffer
        if b in self.memory.offsets:
            return self.in_arena(view, buffer.dtype, self.memory.offsets[b])
        if view.offset == 0 and view.strides == contiguous(view.shape):
            if view.shape == buffer.shape:
                return self.name(b)
            if np.prod(view.shape, dtype=np.int64) == buffer.size:
                return f"{self.name(b)}.reshape({self.constant(view.shape, 's')})"
        return f"strided({self.name(b)}, {self.constant(view, 'v')})"

    def in_arena(self, view: View, dtype: Any, offset: int) -> str:
        """The name of an array in the arena, one for each place and form."""
        key = (offset, view.offset, view.shape, view.strides, dtype)
        name = self._name_of_view.get(key)
        if name is None:
            name = self._name_of_view[key] = f"a{len(self.views)}"
            self.views[name] = (view, dtype, offset)
        return name
