"""Trace and compile times in fresh processes, new batch sizes, dispatch, threads."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import THREADS, VERSIONS, Row, fg, fnp, in_jax, jax, jnp, report

# What a fresh process does: imports (fgrad loads its compiler at the first compile, the others at
# once); then a step is traced and compiled, or is called a few times and then at another batch.
_PROGRAM = """
import json, sys, time
sys.path.insert(0, {folder!r})
import networks, peers
import fgrad.backends.cpu.compiler
params, data, other, losses = networks.step_of({step!r})
step, state = networks.adam_step({library!r}, losses[{library!r}], params)
convert = networks.CONVERT[{library!r}]
data, other = convert(data), convert(other)
def call(batch):
    global state
    start = time.perf_counter()
    state, _ = step(state, *batch)
    return time.perf_counter() - start
if {resized}:
    for _ in range(6):
        call(data)
    again = call(other)
    print(json.dumps([again - min(call(other) for _ in range(5))]))
else:
    start = time.perf_counter()
    peers.jitted(step).lower(state, *data).compile()
    print(json.dumps([time.perf_counter() - start]))
"""

# The same of the loss and gradient of a transformer, one sequence long, with that many blocks.
_BLOCKS = """
import json, sys, time
sys.path.insert(0, {folder!r})
import networks
import fgrad.backends.cpu.compiler
convert = networks.CONVERT[{library!r}]
args = convert((networks.transformer_params({blocks}), *networks.tokens(1)))
loss = networks.TRANSFORMER_LOSSES[{library!r}]
lib = dict(fgrad=networks.fg, jax=networks.jax)[{library!r}]
run = lib.jit(lib.value_and_grad(loss))
start = time.perf_counter()
run.lower(*args).compile()
print(json.dumps([time.perf_counter() - start]))
"""


def _fresh(program: str, library: str, cache: str, **parts: Any) -> list[float]:
    """What a program prints that runs in a process of its own.

    Installed packages are compiled to Python's bytecode; so is fgrad here, at its first run.
    """
    code = program.format(folder=str(Path(__file__).parent), library=library, **parts)
    env = {**os.environ, "FGRAD_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def _best(program: str, runs: int, **parts: Any) -> list[list[float]]:
    """The least microseconds of a few runs: machine code made, read from the disk, and JAX's."""
    cold, warm, jax_cold = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(_fresh(program, "fgrad", cache, **parts))
            warm.append(_fresh(program, "fgrad", cache, **parts))
        jax_cold.append(_fresh(program, "jax", "", **parts))
    return [[min(t) * 1e6 for t in zip(*times, strict=True)] for times in (cold, warm, jax_cold)]


def _row(name: str, us: float, theirs: float, target: str) -> dict[str, Any]:
    times = {"fgrad": us, "jax": theirs}
    return {"row": name, "us": times, "fgrad / peer": {"jax": us / theirs}, "target": target}


def compile_times(step: str, runs: int = 3) -> list[dict[str, Any]]:
    """Of a training step, the first time and at another batch."""
    (cold,), (warm,), (theirs,) = _best(_PROGRAM, runs, step=step, resized=False)
    again = _best(_PROGRAM, runs, step=step, resized=True)
    limit = {"mlp": "5 ms", "transformer": "60 ms"}[step]
    return [
        _row(f"trace + compile: {step} step", cold, theirs, "5x faster"),
        _row(f"trace + compile, disk cache: {step} step", warm, theirs, "10x faster"),
        _row(f"new batch size: {step} step", again[1][0], again[2][0], f"< {limit}"),
    ]


def equal_blocks(runs: int = 3) -> list[dict[str, Any]]:
    """Of 4 and of 24 equal blocks of a transformer, which need the same machine code."""
    rows = []
    for blocks in (4, 24):
        (cold,), (warm,), (theirs,) = _best(_BLOCKS, runs, blocks=blocks)
        name = f"{blocks} equal blocks, forward + backward"
        rows += [
            _row(f"trace + compile: {name}", cold, theirs, "5x faster"),
            _row(f"trace + compile, disk cache: {name}", warm, theirs, "10x faster"),
        ]
    return rows


def dispatch() -> list[Row]:
    """Cached calls: a scalar, and a tree of 99 leaves."""
    f, jf = fg.jit(lambda x: x + 1.0), jax.jit(lambda x: x + 1.0)
    x, jx = fnp.asarray(1.0), jnp.float32(1.0)
    tree = {f"layer{i}": [fnp.asarray(1.0)] * 3 for i in range(33)}
    jtree = in_jax(fg.tree.map(lambda x: x.__array__(), tree))
    g, jg = fg.jit(lambda t: t["layer0"][0]), jax.jit(lambda t: t["layer0"][0])
    return [
        Row(
            "cached dispatch, scalar",
            {"fgrad": lambda: f(x), "jax": lambda: jf(jx).block_until_ready()},
            "<= 0.5",
            2000,
        ),
        Row(
            "cached dispatch, 99 leaves",
            {"fgrad": lambda: g(tree), "jax": lambda: jg(jtree).block_until_ready()},
            "<= 0.8",
            1000,
        ),
    ]


# Callers of one compiled gradient, each checking that it computes the same bits.
_CALLERS = """
import json, threading, time
import numpy as np
import fgrad as fg, fgrad.numpy as fnp
f = fg.jit(fg.grad(lambda x: fnp.sum(fnp.tanh(x) * fnp.sin(x))))
x = fnp.asarray(np.linspace(-2.0, 2.0, 50_000, dtype=np.float32))
expected = np.asarray(f(x)).tobytes()
def rate(callers, calls=400):
    same = []
    def work():
        for _ in range(calls):
            out = f(x)
        same.append(np.asarray(out).tobytes() == expected)
    crew = [threading.Thread(target=work) for _ in range(callers)]
    start = time.perf_counter()
    for t in crew:
        t.start()
    for t in crew:
        t.join()
    assert same == [True] * callers
    return callers * calls / (time.perf_counter() - start)
print(json.dumps([max(rate(n) for _ in range(5)) for n in (1, 2, 4)]))
"""


def threads() -> list[dict[str, Any]]:
    """Calls a second from 1, 2 and 4 threads, with kernels on one thread each and on all cores."""
    rows = []
    for label, workers in (("kernels on one thread", 1), ("kernels on all cores", THREADS)):
        env = {**os.environ, "FGRAD_NUM_THREADS": str(workers)}
        done = subprocess.run(
            [sys.executable, "-c", _CALLERS], capture_output=True, text=True, check=True, env=env
        )
        rates = json.loads(done.stdout.splitlines()[-1])
        rows += [
            {
                "row": f"{callers} threads calling, {label}",
                "us": {"fgrad": 1e6 / rate},
                "fgrad / peer": {"one thread calling": rates[0] / rate},
                "target": "throughput grows with cores",
            }
            for callers, rate in zip((1, 2, 4), rates, strict=True)
        ]
    return rows


def main() -> None:
    """Measure all rows."""
    measured: list[Callable[[], list[dict[str, Any]]]] = [
        lambda: compile_times("mlp"),
        lambda: compile_times("transformer"),
        equal_blocks,
        lambda: [row.measure() for row in dispatch()],
        threads,
    ]
    rows = [row for measure in measured for row in measure()]
    report("cpu_compiling", rows, {**VERSIONS, "threads": str(THREADS)})


if __name__ == "__main__":
    main()
