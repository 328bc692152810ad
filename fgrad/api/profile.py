"""The steps of one call with their times, as a table and as a trace that Perfetto shows."""

import json
import os
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgrad.api.execution import measured
from fgrad.api.inspection import StepInfo, schedule_of, table
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Jaxpr, equation_texts


class Slice(NamedTuple):
    """A step of a call.

    Attributes:
        step: What ran.
        start_us: When it began, in microseconds since the first step.
        duration_us: How long it took, the memory of its results included.
        thread: The system's number of the thread that called; others may have helped.
        equations: Those of the step as the optimised program prints them.
    """

    step: StepInfo
    start_us: float
    duration_us: float
    thread: int
    equations: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the kernel or the primitive."""
        return self.step.name


class Trace:
    """One call, step by step.

    Attributes:
        name: Of the function.
        slices: The steps in the order in which they ran.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp, numpy as np
        >>> x = np.ones((64, 64), np.float32)
        >>> trace = fg.jit(lambda x: fnp.tanh(x @ x)).lower(x).compile().trace(x)
        >>> trace
        dot_general  library  ... µs  ... GB/s  ... Gop/s
        tanh         kernel   ... µs  ... GB/s  ... Gop/s
        >>> [event["name"] for event in trace.events() if event["ph"] == "X"]
        ['dot_general', 'tanh']
    """

    def __init__(self, name: str, slices: Sequence[Slice]) -> None:
        self.name = name
        self.slices = tuple(slices)

    def __repr__(self) -> str:
        """A table, a step a row."""
        rows = []
        for s in self.slices:
            rate = s.step.bytes / s.duration_us / 1e3, s.step.flops / s.duration_us / 1e3
            cells = (f"{rate[0]:.1f} GB/s", f"{rate[1]:.1f} Gop/s")
            rows.append((s.name, s.step.kind, f"{s.duration_us:.1f} µs", *cells))
        return table(rows) if rows else f"{self.name}: no steps"

    def events(self) -> list[dict[str, Any]]:
        """The events of Chrome's trace format: names of process and threads, then the steps."""
        process = os.getpid()
        found: list[dict[str, Any]] = [
            {"ph": "M", "name": "process_name", "pid": process, "tid": 0,
             "args": {"name": f"fgrad: {self.name}"}}
        ]  # fmt: skip
        found += [
            {"ph": "M", "name": "thread_name", "pid": process, "tid": thread,
             "args": {"name": "caller"}}
            for thread in dict.fromkeys(s.thread for s in self.slices)
        ]  # fmt: skip
        for s in self.slices:
            step = s.step
            args = {
                "bytes": step.bytes,
                "flops": step.flops,
                "writes": list(step.buffers),
                "equations": list(s.equations),
                "lines": list(step.lines),
            }
            found.append(
                {"ph": "X", "name": step.name, "cat": step.kind, "ts": s.start_us,
                 "dur": s.duration_us, "pid": process, "tid": s.thread, "args": args}
            )  # fmt: skip
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace as JSON, which ui.perfetto.dev and ``chrome://tracing`` open.

        Args:
            path: The file, replaced if it exists.
        """
        content = {"traceEvents": self.events(), "displayTimeUnit": "ns"}
        Path(path).write_text(json.dumps(content), encoding="utf-8")


def trace(jaxpr: Jaxpr, buffers: Sequence[Any], name: str) -> Trace:
    """Run a closed program on buffers of the right types and measure its steps.

    Args:
        jaxpr: The program, before the passes.
        buffers: One array an input.
        name: Of the function.

    Raises:
        ArgumentError: A buffer is not NumPy's.
    """
    if any(type(b) is not np.ndarray for b in buffers):
        raise ArgumentError(
            f"the steps of {name} are measured on the CPU, and an array is on another device; "
            f"pass NumPy arrays"
        )
    times: list[int] = []
    program = measured(jaxpr, lambda: times.append(time.perf_counter_ns()))
    # The first run of a program also allocates its memory, and may wake workers up.
    for _ in range(1 if jaxpr.effects else 2):
        times.clear()
        with np.errstate(all="ignore"):
            program(np, buffers)
    thread = threading.get_native_id()
    named = equation_texts(program.jaxpr)
    steps = schedule_of(program)
    # The clock may tick more slowly than steps run.
    spans = [(a, max(b - a, 1)) for a, b in pairwise(times)]
    slices = [
        Slice(
            step, (begin - times[0]) / 1e3, span / 1e3, thread,
            tuple(named.get(e) or repr(e) for e in step.equations),
        )
        for step, (begin, span) in zip(steps, spans, strict=True)
    ]  # fmt: skip
    return Trace(name, slices)
