"""Peak memory of training steps, each library in a fresh process."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import THREADS, VERSIONS, report

# What a fresh process does: imports (fgrad loads its compiler at the first compile, the others at
# import), parameters, then steps. The resident memory before the first step is the base; all that
# the process holds at most from then on, tracing and compiling included, is counted.
_PROGRAM = """
import json, resource, sys
sys.path.insert(0, {folder!r})
import fgrad.backends.cpu.compiler
import networks

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def own():
    with open("/proc/self/status") as file:
        return next(int(x.split()[1]) * 1024 for x in file if x.startswith("RssAnon:"))

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

call = networks.stepper(networks.step_of({step!r}), {library!r})
base, before, mine = resident(), most(), own()
for _ in range(4):
    call()
print(json.dumps([base, before, most(), own() - mine]))
"""


def peak_bytes(step: str, library: str, cache: str) -> tuple[int, int]:
    """The most that a training step takes over imports and parameters, and what no file backs."""
    folder = str(Path(__file__).parent)
    code = _PROGRAM.format(folder=folder, step=step, library=library)
    env = {**os.environ, "FGRAD_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    base, before, most, own = json.loads(done.stdout.splitlines()[-1])
    if most <= before:
        raise RuntimeError(f"{library}: the {step} step takes less than the imports before it")
    return int(most - base), int(own)


def memory(step: str, name: str) -> list[dict[str, Any]]:
    """Two rows: peak memory of a step with code made in the process, and with code from the disk.

    JAX compiles in either case.
    """
    peers = {library: peak_bytes(step, library, "") for library in ("jax", "torch")}
    with tempfile.TemporaryDirectory() as cache:
        ours = [peak_bytes(step, "fgrad", cache) for _ in range(2)]
    names = (f"peak memory: {name}", f"peak memory: {name}, disk cache")
    return [
        {
            "row": row,
            "bytes": {"fgrad": mine[0], **{k: v[0] for k, v in peers.items()}},
            "fgrad / peer": {k: mine[0] / v[0] for k, v in peers.items()},
            "own bytes": {"fgrad": mine[1], **{k: v[1] for k, v in peers.items()}},
            "target": "<= 0.9 of the leaner peer",
        }
        for row, mine in zip(names, ours, strict=True)
    ]


def main() -> None:
    """Measure all rows."""
    rows = memory("mlp", "MLP training step")
    rows += memory("transformer", "character transformer step")
    report("cpu_memory", rows, {**VERSIONS, "threads": str(THREADS)})


if __name__ == "__main__":
    main()
