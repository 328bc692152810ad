"""Trace and compile times of training steps in fresh processes, new batch sizes, peak memory.

Times are of tracing and compiling alone: imports, making a context and a first small function come
before, and the time of running is subtracted. Cold means that all caches on the disk are empty;
JAX keeps none. Peak memory is what arrays and programs take at most, over the parameters.

Needs a GPU, CuPy, JAX and PyTorch. `--save` writes `results/gpu_compiling.json`; for the other
options see `peers.py`. With `--small` the processes of a step run side by side.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any

from models import CONVERT, MODELS, stepper
from peers import CPU, SMALL, compiled, fg, first_line, idle, jax, measure_all, np, torch

_CACHES = ("FGRAD_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUPY_CACHE_DIR")
_NO_CACHES = {"CUDA_CACHE_DISABLE": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
_FIRST, _LATER = 3, 5  # calls; a program is complete after the first, a graph of it captured
_TARGETS = {"MLP": "<= 700 ms", "GPT-2": "<= 3000 ms", "FLUX": "<= 4000 ms"}
_MEMORY = {"GPT-2": "<= 5000 MiB", "FLUX": "<= 2400 MiB"}

# -------------------------------------------------------------------------------- a fresh process


def _milliseconds(f: Callable[[], Any]) -> float:
    start = time.perf_counter()
    idle(f())
    return (time.perf_counter() - start) * 1e3


def _making(call: Callable[[], Any]) -> float:
    """The milliseconds that the first calls take beyond those of running."""
    first = sum(_milliseconds(call) for _ in range(_FIRST))
    return first - _FIRST * min(_milliseconds(call) for _ in range(_LATER))


def _start(library: str) -> None:
    """What a library does once, whatever it computes."""
    transforms = {"fgrad": fg.jit, "jax": jax.jit, "torch": lambda f: f, "torch.compile": compiled}
    idle(transforms[library](lambda x: x + 1)(CONVERT[library](np.ones(8, np.float32))))


def _peak(library: str, ours: Any) -> int:
    """The most bytes in use on the card since the process began."""
    if CPU:
        return 0
    if library == "fgrad":
        return int(ours.bytes)
    if library == "jax":
        return int(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"])
    return int(torch.cuda.max_memory_allocated())


def measure_here(name: str, library: str) -> dict[str, float]:
    """What a process measures that has computed nothing before.

    Returns:
        The milliseconds of a first small function, of making the step, and of making it for
        another batch size; the bytes that it takes at most, over the parameters.
    """
    counted = library == "fgrad" and not CPU
    with fg.peak_memory() if counted else nullcontext() as peak:
        start = _milliseconds(lambda: _start(library))
        model = MODELS[name]()
        run, convert = stepper(model, library), CONVERT[library]
        data, other = convert(model.data), convert(model.other)
        cold = _making(lambda: run(*data))
        taken = _peak(library, peak) - sum(x.nbytes for x in jax.tree.leaves(model.params))
    again = _making(lambda: run(*other))
    return {"start": start, "cold": cold, "again": again, "bytes": taken}


# ---------------------------------------------------------------------------------------- the table


def _fresh(name: str, library: str, cache: str) -> dict[str, float]:
    """The same in a process of its own, with its caches in a folder."""
    env = {**os.environ, **_NO_CACHES, **{key: f"{cache}/{key}" for key in _CACHES}}
    command = [sys.executable, __file__, "--measure", name, library, *(["--small"] * SMALL)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"{name} step, {library}: {lines[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(title: str, unit: str, values: dict[str, float], target: str) -> dict[str, Any]:
    mine = values["fgrad"]
    ratios = {k: mine / v for k, v in values.items() if k != "fgrad" and v}
    return {"row": title, unit: values, "fgrad / peer": ratios, "target": target}


def _runs(name: str, library: str) -> list[dict[str, float]] | Exception:
    """A cold process, and one with the caches of the first where the library has any."""
    warm = library == "fgrad" or (library == "torch.compile" and not SMALL)
    try:
        with tempfile.TemporaryDirectory() as cache:
            return [_fresh(name, library, cache) for _ in range(1 + warm)]
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        if library == "fgrad":
            raise
        return error


def compiling(name: str) -> list[dict[str, Any]]:
    """The rows of a step."""
    libraries = ("fgrad", "jax", "torch.compile", *(["torch"] * (name in _MEMORY and not CPU)))
    with ThreadPoolExecutor(len(libraries) if SMALL else 1) as pool:
        done = dict(zip(libraries, pool.map(partial(_runs, name), libraries), strict=True))
    found = {k: v for k, v in done.items() if not isinstance(v, Exception)}

    def values(key: str, run: int = 0) -> dict[str, float]:
        return {k: v[min(run, len(v) - 1)][key] for k, v in found.items()}

    def made(key: str, run: int = 0) -> dict[str, float]:
        return {k: v for k, v in values(key, run).items() if k != "torch"}  # it compiles nothing

    rows = [
        _row(f"trace + compile: {name} step", "ms", made("cold"), _TARGETS[name]),
        _row(f"trace + compile, disk cache: {name} step", "ms", made("cold", 1), "–"),
        _row(f"new batch size: {name} step", "ms", made("again", 1), "< 150 ms"),
    ]
    rows[0]["first function of a process, ms"] = made("start")
    if name in _MEMORY and not CPU:
        rows.append(_row(f"peak memory: {name} step", "bytes", values("bytes"), _MEMORY[name]))
    if len(found) < len(done):
        rows[0]["left out"] = {k: first_line(done[k]) for k in done.keys() - found.keys()}
    return rows


def main() -> None:
    """Measure all rows; with `--measure MODEL LIBRARY`, what one process measures."""
    if "--measure" in sys.argv:
        at = sys.argv.index("--measure")
        print(json.dumps(measure_here(*sys.argv[at + 1 : at + 3])))
        return
    measure_all("gpu_compiling", {name: lambda name=name: compiling(name) for name in MODELS})


if __name__ == "__main__":
    main()
