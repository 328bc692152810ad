"""What compiled code rests on: elementary functions, launches, the pool, the object cache."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Elementary functions are compared on one thread; what needs two runs in a process of its own.
os.environ.setdefault("FGRAD_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import scipy.special
from harness import Row, report

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn

_COUNT = 50_000  # elements: they stay in the second cache

_LAUNCHES = """
import json, time
import numpy as np
from fgrad.backends.cpu import layout
from fgrad.backends.cpu.functions import functions
from fgrad.backends.cpu.render import module, render
from fgrad.compile.kernel import Compute, Kernel, Load, Map, Operand, Store

f32, step = np.dtype("f"), Map(0, (1,))
made = functions()

def kernel(n, op="add", times=1):
    body = [Load(0, step, f32)]
    for i in range(times):
        body.append(Compute(op, (i, 0), f32))
    body.append(Store(1, step, times))
    return Kernel(op, (), (n,), (Operand(f32), Operand(f32, True)), tuple(body))

def launch(k, cost_ns):
    width = made.engine.target.vector_bytes
    def text(names):
        return module([render(k, names[0], layout.lanes(k, width))], 8 * width)
    name = f"bench{hash(layout.structure(k)) & 0xFFFFFF}"
    code = made.engine.load([name], text)[name]
    return made.launch(
        code.addresses[name], layout.words(k), 2, layout.units(k), cost_ns=cost_ns, spin=True
    )

def best(call, *arrays, number=2000, samples=30):
    found = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(number):
            call(*arrays)
        found.append((time.perf_counter() - start) / number * 1e6)
    return min(found)

small = np.zeros(16, np.float32), np.zeros(16, np.float32)
out = {"launch": best(launch(kernel(16), 0), *small)}
k = kernel(8 * layout.BLOCK, times=24)  # eight blocks of work
large = np.zeros(k.length, np.float32), np.zeros(k.length, np.float32)
out["alone"] = best(launch(k, 0), *large)
out["shared"] = best(launch(k, 1e6), *large)
print(json.dumps(out))
"""

_LOADING = """
import json, time
import numpy as np
from fgrad.backends.cpu import layout
from fgrad.backends.cpu.engine import engine
from fgrad.backends.cpu.render import module, render
from fgrad.compile.kernel import Compute, Kernel, Load, Map, Operand, Store

f32, step = np.dtype("f"), Map(0, (1,))
kernels = {}
for i in range(31):
    body = [Load(0, step, f32), Load(1, step, f32)]
    for j in range(6):
        op = ("add", "mul", "sub", "exp", "tanh")[(i + j) % 5] if j else ("min", "max")[i % 2]
        args = (1 + j,) if op in ("exp", "tanh") else (1 + j, 0)
        body.append(Compute(op, args, f32))
    body.extend(Compute("add", (7 + k, 1), f32) for k in range(i))
    body.append(Store(2, step, len(body) - 1))
    operands = (Operand(f32), Operand(f32), Operand(f32, True))
    kernels[f"kernel{i}"] = Kernel(f"kernel{i}", (), (4096,), operands, tuple(body))
width = engine().target.vector_bytes

def text(names):
    code = [render(kernels[n], n, layout.lanes(kernels[n], width)) for n in names]
    return module(code, 8 * width)

start = time.perf_counter()
engine().load(list(kernels), text)
print(json.dumps((time.perf_counter() - start) * 1e6))
"""


def _python(code: str, **env: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, **env},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def elementary() -> list[Row]:
    """Functions of float32 and float64, beside NumPy and SciPy on one thread."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    cases: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
        ("exp", fnp.exp, np.exp), ("log", fnp.log, np.log),
        ("tanh", fnp.tanh, np.tanh), ("sigmoid", nn.sigmoid, sigmoid),
        ("erf", lax.erf, scipy.special.erf), ("sin", fnp.sin, np.sin),
        ("cos", fnp.cos, np.cos),
    ]  # fmt: skip
    rows = []
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).uniform(0.1, 10, _COUNT).astype(dtype)
        for name, ours, theirs in cases:
            f, fx = fg.jit(ours), fnp.asarray(x)
            np.testing.assert_allclose(f(fx), theirs(x), rtol=1e-5)
            contenders = {"fgrad": lambda f=f, fx=fx: f(fx), "numpy": lambda g=theirs, x=x: g(x)}
            rows.append(Row(f"{name}, {x.dtype.name}", contenders, "faster than NumPy", 20))
    return rows


def _row(name: str, us: float, target: str) -> dict[str, Any]:
    return {"row": name, "us": {"fgrad": us}, "fgrad / peer": {}, "target": target}


def launches() -> list[dict[str, Any]]:
    """The call of a kernel, and what sharing it between two threads adds to half of its time."""
    us = _python(_LAUNCHES, FGRAD_NUM_THREADS="2")
    return [
        _row("call of a kernel, 16 elements", us["launch"], "about 0.1 us"),
        _row("sharing a kernel between two threads", us["shared"] - us["alone"] / 2, "< 1 us"),
    ]


def loading() -> list[dict[str, Any]]:
    """Machine code of 31 kernels: made, and loaded in another process."""
    cold, warm = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(_python(_LOADING, FGRAD_CACHE_DIR=cache))
            warm.append(_python(_LOADING, FGRAD_CACHE_DIR=cache))
    return [
        _row("making the code of a kernel, 1 of 31", min(cold) / 31, "9 ms"),
        _row("loading 31 kernels from the disk", min(warm), "2 ms"),
    ]


def main() -> None:
    """Measure all rows."""
    rows = [row.measure() for row in elementary()] + launches() + loading()
    report("cpu_engine", rows, {m.__name__: str(m.__version__) for m in (fg, np, scipy)})


if __name__ == "__main__":
    main()
