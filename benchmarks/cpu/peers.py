"""What the CPU benchmarks share: settings made before anything is imported, and conversions."""

import os
import sys
from pathlib import Path
from typing import Any

# Every library gets the same threads: those that the process may use.
os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import Row, report

import fgrad as fg
import fgrad.numpy as fnp

__all__ = [
    "THREADS", "VERSIONS", "Row", "agree", "blocked", "fg", "fnp", "in_jax", "in_torch", "jax",
    "jitted", "jnp", "np", "ours", "report", "to_numpy", "torch",
]  # fmt: skip
THREADS = int(os.environ["OMP_NUM_THREADS"])
torch.set_num_threads(THREADS)
VERSIONS = {m.__name__: str(m.__version__) for m in (fg, np, jax, torch)}


def ours(tree: Any) -> Any:
    """NumPy arrays as arrays of fgrad."""
    return fg.tree.map(fnp.asarray, tree)


def in_jax(tree: Any) -> Any:
    """NumPy arrays as arrays of JAX."""
    return jax.tree.map(jnp.asarray, tree)


def in_torch(tree: Any, *, grad: bool = False) -> Any:
    """NumPy arrays as tensors; with `grad`, as leaves that are differentiated."""

    def convert(x: Any) -> Any:
        tensor = torch.from_numpy(np.array(x))
        return tensor.requires_grad_() if grad and tensor.is_floating_point() else tensor

    return jax.tree.map(convert, tree)


def to_numpy(tree: Any) -> list[Any]:
    """The leaves of a result of any of the libraries."""
    if isinstance(tree, torch.Tensor):
        return [tree.detach().numpy()]
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in to_numpy(part)]
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in to_numpy(tree[key])]
    return [np.asarray(tree)]


def agree(contenders: dict[str, Any], tolerance: float = 2e-3) -> None:
    """Stop unless all contenders compute the same numbers."""
    results = {name: to_numpy(f()) for name, f in contenders.items()}
    reference = results["fgrad"]
    for name, found in results.items():
        assert len(found) == len(reference), f"{name}: {len(found)} results"
        for a, b in zip(found, reference, strict=True):
            scale = float(np.abs(b).max(initial=0.0)) or 1.0
            error = float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale
            assert error < tolerance, f"{name} differs from fgrad by {error:.2g}"


def blocked(f: Any) -> Any:
    """A JAX function that waits for its result."""

    def call(*args: Any) -> Any:
        return jax.block_until_ready(f(*args))

    call.jitted = f  # type: ignore[attr-defined]
    return call


def jitted(f: Any) -> Any:
    """What a library's `jit` returned, without what `blocked` puts around it."""
    return getattr(f, "jitted", f)
