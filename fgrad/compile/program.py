"""A jaxpr as one Python function of eager rules: no interpreter between two operations.

Variables are locals and are deleted after their last use, so the peak of memory is that of the
live values. The text can be read: `Program.source`.
"""

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from fgrad.core.errors import FgradError
from fgrad.core.evaluate import WEAK, ArrayImpl, EvalTrace
from fgrad.core.homes import on_device, platforms
from fgrad.core.ir import Atom, Jaxpr, Literal, Var
from fgrad.core.tracing import current, state
from fgrad.core.transforms.jaxprs import derived
from fgrad.core.transforms.stage import eval_jaxpr


class Program:
    """A program ready to run on bare buffers.

    Args:
        jaxpr: What it computes, after all passes.
        mark: Called before the first equation and after each, to measure them.

    Attributes:
        jaxpr: As given.
        source: The Python text that runs.
    """

    __slots__ = ("_code", "_functions", "_lines", "jaxpr", "source")

    fresh = silent = False  # rules may return what they are given, and NumPy may warn
    taken: tuple[int, ...] = ()  # rules do not write to what they are given

    def __init__(self, jaxpr: Jaxpr, mark: Callable[[], object] | None = None) -> None:
        self.jaxpr = jaxpr
        writer = _Writer(jaxpr, mark)
        self.source = writer.text()
        self._lines = writer.eqn_of_line
        filename = f"<fgrad program {id(self):x}>"
        exec(compile(self.source, filename, "exec"), writer.globals)
        # Taken out of its own globals, which would hold it in a cycle.
        function = writer.globals.pop("program")
        self._code = function.__code__
        self._functions: dict[Any, Any] = {np: function}

    def __call__(self, xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
        """Run on buffers of one array library; host arrays among them follow the others."""
        function = self._functions[np]
        if xp is not np:
            arrays, function = on_device(xp, arrays, self._there)
        try:
            return function(xp, *arrays)  # type: ignore[no-any-return]
        except Exception as error:
            self.explain(error)
            raise

    def run(self, *arrays: Any) -> list[Any]:
        """Run on NumPy arrays."""
        return self(np, arrays)

    def _there(self, xp: ModuleType, *arrays: Any) -> list[Any]:
        """Run on the current device of another array library."""
        current = platforms[xp.__name__]().current()
        function = self._functions.get(current)
        if function is None:
            function = self._functions[current] = self._with_constants_on(xp)
        return function(xp, *arrays)  # type: ignore[no-any-return]

    def _with_constants_on(self, xp: ModuleType) -> Any:
        """The same code over constants on a device."""
        host = self._functions[np].__globals__
        constants = {k: xp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in host.items()}
        return FunctionType(self._code, constants)

    def own(self, arrays: list[Any], given: Collection[int], references: int) -> None:
        """Nothing: rules do not write to what they are given."""

    def shortage(self) -> str:
        """What to say when there is no memory for a call; the peak is not known beforehand."""
        return (
            "no memory to run a program; make it smaller (a smaller batch, checkpoint), or free "
            "what is not needed"
        )

    def began(self, error: BaseException) -> bool:
        """Whether an error arose when an input may have been overwritten: never."""
        return False

    def explain(self, error: Exception) -> None:
        """Add the equation and the user's line to an error, once."""
        if any(n.startswith("fgrad: in") for n in getattr(error, "__notes__", ())):
            return
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code is self._code and step.tb_lineno in self._lines:
                eqn = self.jaxpr.eqns[self._lines[step.tb_lineno]]
                types = ", ".join(str(a.aval) for a in eqn.inputs)
                error.add_note(
                    f"fgrad: in {eqn.primitive.name}({types}), asked for at {eqn.source}"
                )
            step = step.tb_next


class _Writer:
    """Writes the text; constants, rules and parameters become globals of the function."""

    def __init__(self, jaxpr: Jaxpr, mark: Callable[[], object] | None) -> None:
        self.jaxpr = jaxpr
        self.globals: dict[str, Any] = {} if mark is None else {"mark": mark}
        self.marks = [] if mark is None else ["    mark()"]
        self.names: dict[Var, str] = {}
        self.eqn_of_line: dict[int, int] = {}

    def constant(self, value: Any, prefix: str) -> str:
        name = f"{prefix}{len(self.globals)}"
        self.globals[name] = value
        return name

    def atom(self, atom: Atom) -> str:
        if isinstance(atom, Literal):
            return self.constant(atom.value, "c")
        return self.names[atom]

    def local(self, var: Var) -> str:
        name = self.names[var] = f"v{len(self.names)}"
        return name

    def text(self) -> str:
        inputs = ", ".join(self.local(v) for v in self.jaxpr.invars)
        lines = [f"def program(xp, {inputs}):", *self.marks]
        for i, (eqn, dead) in enumerate(zip(self.jaxpr.eqns, self.jaxpr.last_uses, strict=True)):
            prim = eqn.primitive
            rule = self.constant(prim.eager, f"{_identifier(prim.name)}_")
            args = ["xp", *(self.atom(a) for a in eqn.inputs)]
            args += [f"{k}={self.constant(v, 'p')}" for k, v in eqn.params.items()]
            outs = ", ".join(self.local(v) for v in eqn.outputs)
            comma = "," if prim.multiple_results and len(eqn.outputs) == 1 else ""
            target = f"{outs}{comma} = " if eqn.outputs else ""
            lines.append(f"    {target}{rule}({', '.join(args)})")
            self.eqn_of_line[len(lines)] = i
            if dead:
                lines.append(f"    del {', '.join(self.names[v] for v in dead)}")
            lines += self.marks
        outs = ", ".join(self.atom(v) for v in self.jaxpr.outvars)
        return "\n".join([*lines, f"    return [{outs}]"]) + "\n"


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def program_of(jaxpr: Jaxpr) -> Program:
    """The program of a closed jaxpr, made once for it and the trace configuration."""
    program: Program = derived(jaxpr, ("program",), lambda: Program(optimized(jaxpr)))
    return program


def optimized(jaxpr: Jaxpr) -> Jaxpr:
    """The program after all passes, which are loaded when first needed."""
    out: Jaxpr = import_module("fgrad.compile.passes").optimize(jaxpr)
    return out


def one_by_one(jaxpr: Jaxpr, arrays: Sequence[Any]) -> list[Any]:
    """Run equation by equation, each checked and with its user's line."""
    values = [
        ArrayImpl(x, WEAK if a.weak_type else 0)
        for x, a in zip(arrays, jaxpr.in_avals, strict=True)
    ]
    quiet = state.quiet
    if not isinstance(quiet, EvalTrace):
        raise FgradError("no evaluation trace")
    with current(quiet):
        outs = eval_jaxpr(jaxpr, (), *values)
    return [x._data for x in outs]
