"""What the GPU benchmarks share: settings made before anything is imported, timing, conversions.

All libraries run on the same card with the same inputs, dtypes and precision: products of float32
are full float32. A contender queues its work and returns; the clock is read when the card is idle.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("FGRAD_CUDA_COMPILER", "rawkernel")
sys.path.insert(0, str(Path(__file__).parents[1]))

import cupy
import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import report

import fgrad as fg
import fgrad.numpy as fnp

__all__ = [
    "Row", "captured", "cupy", "fg", "fnp", "in_jax", "in_torch", "jax", "jnp", "np", "ours",
    "report", "torch", "versions",
]  # fmt: skip
_SAMPLES, _SAMPLE_S = 15, 0.03
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
jax.config.update("jax_default_matmul_precision", "highest")


def versions() -> dict[str, str]:
    """The card and the libraries."""
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    libraries = {m.__name__: str(m.__version__) for m in (fg, np, cupy, jax, torch)}
    return {"gpu": name, **libraries}


def ours(tree: Any) -> Any:
    """NumPy arrays as arrays of fgrad on the card."""
    return fg.tree.map(lambda x: fnp.asarray(cupy.asarray(x)), tree)


def in_jax(tree: Any) -> Any:
    """NumPy arrays as arrays of JAX."""
    return jax.tree.map(jnp.asarray, tree)


def in_torch(tree: Any, *, grad: bool = False) -> Any:
    """NumPy arrays as tensors on the card; with `grad`, as leaves that are differentiated."""

    def convert(x: Any) -> Any:
        narrow = x.dtype.name == "bfloat16"
        tensor = torch.from_numpy(np.array(x.astype(np.float32) if narrow else x)).cuda()
        tensor = tensor.bfloat16() if narrow else tensor
        return tensor.requires_grad_() if grad and tensor.is_floating_point() else tensor

    return jax.tree.map(convert, tree)


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """A function of PyTorch as one CUDA graph, over the inputs that it closes over."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        out = run()

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def _numbers(tree: Any) -> list[Any]:
    """The leaves of a result of any of the libraries, in float64."""
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in _numbers(part)]
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in _numbers(tree[key])]
    if isinstance(tree, torch.Tensor):
        return [tree.detach().double().cpu().numpy()]
    if isinstance(tree, jax.Array):
        return [np.asarray(tree).astype(np.float64)]
    return [cupy.asnumpy(tree._data).astype(np.float64)]


class Row:
    """One workload: milliseconds a call of each contender, who must all compute the same.

    Args:
        name: What is measured.
        contenders: Name → function without arguments, which queues work on the card.
        target: Milliseconds, as the project's goals state it.
        floor: Milliseconds that the bytes or operations take at the card's peak rates, or None.
        tolerance: Largest difference in norm, relative to fgrad's result; None where contenders
            carry state from call to call.
    """

    def __init__(
        self,
        name: str,
        contenders: dict[str, Callable[[], Any]],
        target: str,
        floor: float | None = None,
        tolerance: float | None = 1e-4,
    ) -> None:
        self.name, self.contenders = name, contenders
        self.target, self.floor, self.tolerance = target, floor, tolerance

    def agree(self) -> None:
        """Stop unless all contenders compute the same numbers."""
        if self.tolerance is None:
            return
        want = _numbers(self.contenders["fgrad"]())
        for name, f in self.contenders.items():
            if name == "fgrad":
                continue
            found = _numbers(f())
            assert len(found) == len(want), f"{self.name}, {name}: {len(found)} results"
            for a, b in zip(found, want, strict=True):
                error = float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))
                assert error < self.tolerance, f"{self.name}, {name}: off by {error:.2g}"

    def measure(self) -> dict[str, Any]:
        """Medians, the spread between quartiles, and the ratio of fgrad to each peer."""
        self.agree()
        counts = {name: _calls(f) for name, f in self.contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in self.contenders}
        for _ in range(_SAMPLES):
            for name, f in self.contenders.items():
                times[name].append(_seconds(f, counts[name]) / counts[name] * 1e3)
        medians = {name: statistics.median(t) for name, t in times.items()}
        spread = {}
        for name, t in times.items():
            low, _, high = statistics.quantiles(t, n=4)
            spread[name] = high - low
        ratios = {n: medians["fgrad"] / t for n, t in medians.items() if n != "fgrad"}
        row = {"row": self.name, "ms": medians, "spread ms": spread, "fgrad / peer": ratios}
        if self.floor is not None:
            row["floor ms"] = self.floor
        return {**row, "target": self.target}


def _seconds(f: Callable[[], Any], calls: int) -> float:
    f()
    _idle()
    start = time.perf_counter()
    for _ in range(calls):
        out = f()
    if isinstance(out, jax.Array | list | tuple):
        jax.block_until_ready(out)
    _idle()
    return time.perf_counter() - start


def _calls(f: Callable[[], Any]) -> int:
    """Calls that fill a sample."""
    for _ in range(3):
        f()
    return max(3, int(_SAMPLE_S / (_seconds(f, 3) / 3)))


def _idle() -> None:
    cupy.cuda.runtime.deviceSynchronize()
