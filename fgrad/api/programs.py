"""The programs of traced calls: what they hold, how their results are wrapped."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad.api.donation import claim, give_away, restore, stand_ins
from fgrad.api.execution import Runnable, brought_to, named_device, runnable
from fgrad.core import trees
from fgrad.core.config import config
from fgrad.core.errors import ArgumentError, OutOfMemoryError
from fgrad.core.evaluate import WEAK, ArrayImpl, DonatedBuffer, borrow, library_of
from fgrad.core.homes import copied
from fgrad.core.ir import ClosedJaxpr, Jaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import Tracer
from fgrad.core.transforms.call import call
from fgrad.core.transforms.stage import hoist

if TYPE_CHECKING:
    from fgrad.api.inspection import KernelInfo, StepInfo
    from fgrad.api.profile import Trace
    from fgrad.compile.memory import Memory


_HOST = {np.ndarray}


class Entry:
    """A traced call: its program, the values it closed over, and the structure of its result.

    Args:
        closed: The program and what it closed over.
        out_tree: The structure of the result.
        donated: The positions of donated arguments among the inputs; closed-over values come first.
    """

    __slots__ = (
        "cached",
        "closed",
        "consts",
        "device",
        "donated",
        "elsewhere",
        "flags",
        "gone",
        "jaxpr",
        "kept",
        "moved",
        "out_tree",
        "program",
        "single",
    )  # fmt: skip

    def __init__(self, closed: ClosedJaxpr, out_tree: Any, donated: tuple[int, ...] = ()) -> None:
        self.closed = closed
        self.jaxpr: Jaxpr = hoist(closed.jaxpr)
        self.consts = closed.consts
        self.donated = tuple(len(self.consts) + i for i in donated)
        self.out_tree = out_tree
        self.flags = [WEAK if a.weak_type else 0 for a in self.jaxpr.out_avals]
        self.device = named_device(self.jaxpr)
        self.program: Runnable | None = None
        self.gone: list[DonatedBuffer] | None = None
        self.kept: list[int] = []
        self.cached = False
        self.single = out_tree.is_leaf()
        self.elsewhere: tuple[type, Runnable] | None = None
        self.moved: dict[int, list[Any]] = {}  # `consts` on devices

    def program_for(self, kind: type) -> Runnable | None:
        """The program for buffers of one type, if one has run that is fit for any such call."""
        if kind is np.ndarray:
            return self.program
        found = self.elsewhere
        return found[1] if found is not None and found[0] is kind else None


def run_entry(
    entry: Entry, inputs: Sequence[Value], name: str, *, donate: bool = True
) -> list[Value]:
    """The results of a traced call for concrete arguments.

    Args:
        entry: The call.
        inputs: What it closed over, and its arguments.
        name: Of the function.
        donate: Whether results may take the memory of donated arguments.
    """
    buffers = [v._data for v in inputs]
    others = libraries_of(buffers)
    if entry.device is not None:
        xp, given = brought_to(entry.device, next(iter(others), np), buffers)
        buffers, others = list(given), {xp} - {np}
    if config.debug_nans or config.debug_infs:
        outs = call(entry.jaxpr, *inputs, name=name)
    elif others:
        elsewhere = import_module("fgrad.api.elsewhere")
        found: list[Value] = elsewhere.run(entry, *others, inputs, buffers, name, donate)
        return found
    elif entry.donated and not donate:
        return run_flat(runnable(entry.jaxpr), entry.flags, buffers)
    else:
        program = entry.program
        if program is None:
            program = entry.program = runnable(entry.jaxpr, donated=entry.donated)
        if program.taken:
            return run_donated(program, entry, inputs, buffers, name)
        outs = run_flat(program, entry.flags, buffers)
    if donate:
        give_away(inputs, entry.donated, name)
    return outs


def libraries_of(buffers: Sequence[Any]) -> set[ModuleType]:
    """The array libraries of buffers, beside NumPy."""
    kinds = set(map(type, buffers))
    if kinds <= _HOST:
        return set()
    each = buffers[:1] if len(kinds) == 1 else {type(b): b for b in buffers}.values()
    return {library_of(b) for b in each} - {np}


def run_donated(
    program: Runnable, entry: Entry, inputs: Sequence[Value], buffers: list[Any], name: str
) -> list[Value]:
    """Run a program that writes results into donated buffers.

    After an error before its first step the arrays have their buffers again.
    """
    if entry.gone is None:
        avals = entry.jaxpr.in_avals
        entry.kept = [i for i in range(len(avals)) if i not in entry.donated]
        entry.gone = stand_ins([avals[i] for i in entry.donated], name)
    given = claim(program, inputs, buffers, entry.donated, entry.gone, entry.kept, name)
    try:
        return run_flat(program, entry.flags, buffers)
    except BaseException as error:
        if not program.began(error):
            restore(given)
        raise


def run_flat(program: Runnable, flags: Sequence[int], buffers: Sequence[Any]) -> list[Value]:
    """Run a program on NumPy arrays of the types that it was made for.

    Args:
        program: What runs.
        flags: For each result, whether its type is weak.
        buffers: One array an input.
    """
    try:
        if program.silent:
            outs = program.run(*buffers)
        else:
            with np.errstate(all="ignore"):
                outs = program.run(*buffers)
    except MemoryError as error:
        program.explain(error)
        raise OutOfMemoryError(program.shortage()) from error
    except Exception as error:
        program.explain(error)
        raise
    if program.fresh:
        return list(map(ArrayImpl, outs, flags))  # half the time of a comprehension
    taken = program.taken
    if taken:
        buffers = [b for i, b in enumerate(buffers) if i not in taken]
    return wrap(outs, flags, buffers)


def wrap(outs: Sequence[Any], flags: Sequence[int], buffers: Sequence[Any]) -> list[Value]:
    """Results as arrays, none of which shares memory with a buffer of the call.

    The caller can write to those, or has donated them.
    """
    given = set(map(id, buffers))
    owners: set[int] | None = None
    wrapped = []
    for x, flag in zip(outs, flags, strict=True):
        if isinstance(x, np.generic):
            x = np.asarray(x)
        elif id(x) in given:
            x = copied(x)
        elif x.base is not None:
            if owners is None:
                owners = set(map(_owner, buffers))
            if _owner(x) in owners:
                x = copied(x)
        wrapped.append(ArrayImpl(x, flag))
    return wrapped


def _owner(x: Any) -> int:
    """The identity of what holds the memory of a buffer."""
    while (base := getattr(x, "base", None)) is not None:
        x = base
    return id(x)


def _inspection() -> Any:
    """`fgrad.api.inspection`, loaded when somebody looks: it needs the compiler's own modules."""
    return import_module("fgrad.api.inspection")


def _misses() -> Any:
    return import_module("fgrad.api.misses")  # only for who passes what does not fit


class Lowered:
    """A call's program before it runs: what it computes, and what it was compiled to.

    In a notebook it shows the user's lines beside the steps that they went into.

    Attributes:
        jaxpr: The traced program.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp, numpy as np
        >>> x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
        >>> lowered = fg.jit(lambda x, w: fnp.tanh(x @ w)).lower(x, w)
        >>> [(step.kind, step.name) for step in lowered.schedule()]
        [('library', 'dot_general'), ('kernel', 'tanh')]
        >>> [kernel.flops for kernel in lowered.kernels()]
        [8]
        >>> memory = lowered.memory_analysis()
        >>> memory.input_bytes, memory.result_bytes, memory.arena_bytes, memory.peak_bytes
        (72, 32, 64, 168)
        >>> lowered.cost_analysis()["flops"]
        56
        >>> print(lowered.as_text())
        def program(b0, b1):
            if not ready(b0, b1):
                b0, b1 = prepare(b0, b1)
            dot_general_...(b0, b1, a0)
            b3 = empty(...)
            tanh_...(a0, b3)
            return [b3]
    """

    def __init__(self, entry: Entry, name: str, tree: Any, xp: ModuleType = np) -> None:
        self._entry = entry
        self._xp = xp
        self._name = name
        self._tree = tree
        self.jaxpr = entry.closed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name}: {len(self.schedule())} steps)"

    def _repr_html_(self) -> str:
        page: str = import_module("fgrad.api.html").page(self._program, self._name)
        return page

    @property
    def _program(self) -> Runnable:
        return runnable(self._entry.jaxpr, self._xp, self._entry.donated)

    @property
    def optimized(self) -> Jaxpr:
        """The program after all passes; closed-over arrays are its first inputs."""
        return self._program.jaxpr

    def kernels(self) -> "list[KernelInfo]":
        """The fused kernels, in order: loop IR, source, grid, costs, equations and lines of each.

        Empty where NumPy runs the program (``config.cpu_compiler`` is ``"numpy"``).
        """
        found: list[KernelInfo] = _inspection().kernels_of(self._program)
        return found

    def schedule(self) -> "list[StepInfo]":
        """All steps in order, each a kernel, a library call, a loop or a function of the user."""
        found: list[StepInfo] = _inspection().schedule_of(self._program)
        return found

    def memory_analysis(self) -> "Memory":
        """The memory of a call: inputs, results, the arena of temporaries, and the peak.

        Raises:
            ArgumentError: NumPy runs the program, and allocates as it goes.
        """
        found: Memory = _inspection().memory_of(self._program)
        return found

    def cost_analysis(self) -> dict[str, int]:
        """Operations (``"flops"``) and ``"bytes accessed"`` of all steps.

        Operations are counted in kernels and matrix products; other libraries do not tell theirs.
        """
        found: dict[str, int] = _inspection().cost_of(self._program)
        return found

    def widened(self) -> tuple[str, ...]:
        """The lines at which narrower operands give a result of 64 bits, with the types.

        Example:
            >>> import fgrad as fg, numpy as np
            >>> lowered = fg.jit(lambda x: x * np.float64(0.1)).lower(np.ones(3, np.float32))
            >>> [line.partition(": ")[2] for line in lowered.widened()]
            ['convert_element_type f32[3] -> f64[3]']
        """
        found: tuple[str, ...] = _inspection().widened_in(self.jaxpr.jaxpr)
        return found

    def as_text(self) -> str:
        """The Python text that runs."""
        return self._program.source

    def compile(self) -> "Compiled":
        """The program as a function of the call's arguments, less static ones."""
        _ = self._program
        return Compiled(self._entry, self._name, self._tree, self._xp)


class Compiled(Lowered):
    """A program that is ready to run: a call with arguments of these types, and no others.

    It takes the arguments of the function it was made of, less static ones, and donates none.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp, numpy as np
        >>> x = np.ones(3, np.float32)
        >>> compiled = fg.jit(lambda p: fnp.sum(p["x"])).lower({"x": x}).compile()
        >>> compiled({"x": x})
        Array(3., dtype=float32)
        >>> [step.name for step in compiled.trace({"x": x}).slices]
        ['reduce_sum']
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the call.

        Raises:
            ArgumentError: The arguments differ in structure, shapes or dtypes from those that it
                was compiled for, or are being traced.
        """
        values = self._values(args, kwargs)
        inputs = (*self._entry.consts, *values)
        outs = run_entry(self._entry, inputs, self._name, donate=False)
        return trees.unflatten(self._entry.out_tree, outs)

    def trace(self, *args: Any, **kwargs: Any) -> "Trace":
        """Run a call and measure each of its steps.

        A program without effects runs twice, and the second run is measured.

        Args:
            *args: As for a call; NumPy arrays, or those of fgrad over them.
            **kwargs: Likewise.

        Returns:
            The steps with their times. ``trace.save("call.json")`` writes them for Perfetto
            (ui.perfetto.dev), or ``chrome://tracing``.

        Raises:
            ArgumentError: As for a call, or an array is on another device.
        """
        values = self._values(args, kwargs)
        buffers = [v._data for v in (*self._entry.consts, *values)]
        traced: Trace = import_module("fgrad.api.profile").trace(
            self._entry.jaxpr, buffers, self._name
        )
        return traced

    def _values(self, args: Any, kwargs: Any) -> list[Value]:
        """The leaves of arguments that fit; uses up the random keys among them."""
        leaves, tree = trees.flatten((args, kwargs))
        if tree != self._tree:
            found = _misses().misfit(self._tree, (args, kwargs))
            raise ArgumentError(
                f"{self._name} was compiled for {found}; leave static arguments out, or "
                f"call the jitted function, which compiles for each"
            )
        values: list[Value] = [borrow(x) for x in leaves]
        entry = self._entry
        for i, (value, var) in enumerate(zip(values, entry.closed.jaxpr.invars, strict=True)):
            got, wanted = value.aval, var.aval
            if isinstance(value, Tracer) or (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
                path = _misses().named(trees.flatten_with_path((args, kwargs))[0][i][0])
                what = f"a traced {got}" if isinstance(value, Tracer) else str(got)
                raise ArgumentError(
                    f"{self._name} was compiled for {wanted} as {path}, got {what}; call "
                    f"the jitted function, which compiles for each"
                )
        if entry.jaxpr.key_uses is not None:
            entry.jaxpr.key_uses.call([*entry.consts, *values], self._name)
        return values
