"""What the GPU benchmarks share: settings made before anything is imported, timing, conversions.

All libraries run on the same card with the same inputs, dtypes and precision: products of float32
are full float32 unless a row says otherwise. A contender queues its work and returns; the clock is
read when the card is idle.

`--small` takes small inputs, to see that everything runs and agrees: PyTorch's programs are traced
but not compiled by Inductor then, and times mean nothing. `--only TEXT` measures the rows whose
name has it. With FGRAD_BENCH_CPU=1 the CPU stands for the card, to check rows without one.
"""

import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if os.environ.get("FGRAD_BENCH_CPU") == "1":
    os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("FGRAD_CUDA_COMPILER", "rawkernel")
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import RESULTS, save, show

import fgrad as fg
import fgrad.numpy as fnp

if os.environ.get("FGRAD_BENCH_CPU") != "1":
    import cupy

__all__ = [
    "CPU", "SMALL", "Row", "captured", "compiled", "fg", "first_line", "fnp", "forward_backward",
    "idle", "in_jax", "in_torch", "jax", "jnp", "measure_all", "normal", "np", "of_halves", "ours",
    "torch", "versions",
]  # fmt: skip
CPU = os.environ.get("FGRAD_BENCH_CPU") == "1"
SMALL = "--small" in sys.argv
_SAMPLES, _SAMPLE_S = (2, 0.0) if SMALL else (15, 0.03)
_DEVICE = "cpu" if CPU else "cuda"
_RNG = np.random.default_rng(0)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
if not CPU:  # of PyTorch's attentions, cuDNN's is the fastest on Hopper
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
jax.config.update("jax_default_matmul_precision", "highest")


def versions() -> dict[str, str]:
    """The card and the libraries."""
    libraries = {m.__name__: str(m.__version__) for m in (fg, np, jax, torch)}
    if CPU:
        return {"gpu": "none, the CPU stands for it", **libraries}
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return {"gpu": name, "cupy": str(cupy.__version__), **libraries}


def normal(*shape: int, dtype: Any = np.float32, scale: float = 1.0) -> Any:
    """Normal numbers."""
    return (_RNG.standard_normal(shape, np.float32) * np.float32(scale)).astype(dtype)


def ours(tree: Any) -> Any:
    """NumPy arrays as arrays of fgrad on the card."""
    return fg.tree.map(lambda x: fnp.asarray(x if CPU else cupy.asarray(x)), tree)


def in_jax(tree: Any) -> Any:
    """NumPy arrays as arrays of JAX."""
    return jax.tree.map(jnp.asarray, tree)


def of_halves(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of JAX on bfloat16, whose products need not ask for full float32."""

    def run(*args: Any) -> Any:
        with jax.default_matmul_precision("default"):
            return f(*args)

    return run


def in_torch(tree: Any, *, grad: bool = False) -> Any:
    """NumPy arrays as tensors on the card; with `grad`, as leaves that are differentiated."""

    def convert(x: Any) -> Any:
        narrow = x.dtype.name == "bfloat16"
        tensor = torch.from_numpy(np.array(x.view(np.int16) if narrow else x)).to(_DEVICE)
        tensor = tensor.view(torch.bfloat16) if narrow else tensor
        return tensor.requires_grad_() if grad and tensor.is_floating_point() else tensor

    return jax.tree.map(convert, tree)


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch, compiled."""
    made: Callable[..., Any] = torch.compile(f, backend="aot_eager" if SMALL else "inductor")
    return made


def captured(
    run: Callable[[], Any],
    reset: Callable[[], Any] = lambda: None,
    name: str = "torch.compile, graph",
) -> dict[str, Callable[[], Any]]:
    """A function of PyTorch as one CUDA graph, over the tensors that it closes over.

    Args:
        run: The function.
        reset: Puts the state back that the calls before the capture have changed.
        name: Of the contender.

    Returns:
        A contender for a `Row`, which captures at its first call. The CPU has no graphs: none.
    """
    held: list[Any] = []

    def replay() -> Any:
        if not held:
            held.extend(_capture(run))
            reset()
        held[0].replay()
        return held[1]

    return {} if CPU else {name: replay}


def _capture(run: Callable[[], Any]) -> tuple[Any, Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        out = run()
    return graph, out


def _numbers(tree: Any) -> list[Any]:
    """The leaves of a result of any of the libraries, at least in float32."""
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in _numbers(part)]
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in _numbers(tree[key])]
    if isinstance(tree, torch.Tensor):
        wide = tree.detach().float() if tree.dtype == torch.bfloat16 else tree.detach()
        return [wide.cpu().numpy()]
    array = np.asarray(tree if isinstance(tree, jax.Array) else fg.device_get(tree))
    return [array.astype(np.float32) if array.dtype.itemsize < 4 else array]


class Row:
    """One workload: milliseconds a call of each contender, who must all compute the same.

    Args:
        name: What is measured.
        contenders: Name → function without arguments, which queues work on the card. One may
            carry state from call to call: all are called equally often before they are compared.
        target: Milliseconds, as the project's goals state it.
        floor: Milliseconds that the bytes or operations take at the card's peak rates, or None.
        tolerance: Largest difference in norm of each result, relative to fgrad's.
        calls: How many calls' results are compared.
    """

    def __init__(
        self,
        name: str,
        contenders: dict[str, Callable[[], Any]],
        target: str,
        floor: float | None = None,
        tolerance: float = 1e-4,
        calls: int = 1,
    ) -> None:
        self.name, self.contenders = name, contenders
        self.target, self.floor = target, floor
        self.tolerance, self.calls = tolerance, calls
        self.left_out: dict[str, str] = {}
        self.differences: dict[str, float] = {}

    def _first(self, name: str) -> list[Any]:
        return [x for _ in range(self.calls) for x in _numbers(self.contenders[name]())]

    def agree(self) -> None:
        """Stop unless all contenders compute the same numbers; leave out peers that cannot run."""
        want = self._first("fgrad")
        for name in [n for n in self.contenders if n != "fgrad"]:
            try:
                found = self._first(name)
            except Exception as error:  # noqa: BLE001 - the others are worth their time
                self.left_out[name] = first_line(error)
                del self.contenders[name]
                continue
            shapes = [x.shape for x in found], [x.shape for x in want]
            assert shapes[0] == shapes[1], f"{name}: {shapes[0]}, fgrad: {shapes[1]}"
            self.differences[name] = float(np.max([*map(_difference, found, want)]))
        off = {k: f"{e:.2g}" for k, e in self.differences.items() if not e < self.tolerance}
        assert not off, f"they differ from fgrad by more than {self.tolerance}: {off}"

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
        if self.left_out:
            row["left out"] = self.left_out
        return {**row, "difference": self.differences, "target": self.target}


def first_line(error: Exception) -> str:
    """An error in a line: its type, its message's first line, and where it was raised."""
    lines = str(error).strip().splitlines() or [""]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {lines[0]} ({Path(place.filename).name}:{place.lineno})"


def _difference(found: Any, want: Any) -> float:
    """The norm of the difference relative to that of the second array; NaN where one has NaN."""
    scale = float(np.linalg.norm(want.ravel())) or 1.0
    return float(np.linalg.norm((found - want).ravel())) / scale


def _seconds(f: Callable[[], Any], calls: int) -> float:
    idle(f())
    start = time.perf_counter()
    for _ in range(calls):
        out = f()
    idle(out)
    return time.perf_counter() - start


def _calls(f: Callable[[], Any]) -> int:
    """Calls that fill a sample."""
    for _ in range(3):
        f()
    return max(3, int(_SAMPLE_S / (_seconds(f, 3) / 3)))


def idle(out: Any) -> None:
    """Wait for all that the card computes, and for a result."""
    if isinstance(out, jax.Array | list | tuple):
        jax.block_until_ready(out)
    if not CPU:
        cupy.cuda.runtime.deviceSynchronize()


def _release() -> None:
    """Give back what the contenders of a row held on the card."""
    gc.collect()
    if not CPU:
        cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()


def forward_backward(
    name: str,
    target: str,
    floor: float | None,
    args: tuple[Any, ...],
    functions: tuple[Callable[..., Any], ...],
    tolerance: float = 1e-4,
    extra: Callable[[Callable[..., Any]], dict[str, Callable[[], Any]]] = lambda torch_of: {},
) -> Row:
    """A function and its pullback.

    Args:
        name: What it is.
        target: Milliseconds, in words.
        floor: Milliseconds.
        args: The cotangent, then the arguments.
        functions: For fgrad, JAX and PyTorch.
        tolerance: Of the results' norms.
        extra: More contenders, of what makes one of a function for PyTorch.
    """

    def both(pull: Any, f: Any) -> Any:
        def run(ct: Any, *args: Any) -> Any:
            out, back = pull(f, *args)
            return out, back(ct)

        return run

    f, jf, tf = functions
    run, jax_run = fg.jit(both(fg.vjp, f)), jax.jit(both(jax.vjp, jf))
    fargs, jargs = ours(args), in_jax(args)
    ct, targs = in_torch(args[0]), in_torch(args[1:], grad=True)

    def torch_of(f: Any) -> Any:
        def run() -> Any:
            out = f(*targs)
            return out, torch.autograd.grad(out, targs, ct)

        return run

    made = torch_of(compiled(tf))
    contenders = {
        "fgrad": lambda: run(*fargs),
        "jax": lambda: jax_run(*jargs),
        "torch": torch_of(tf),
        "torch.compile": made,
        **captured(made),
        **extra(torch_of),
    }
    return Row(f"{name}, forward + backward", contenders, target, floor, tolerance)


def measure_all(name: str, makers: Mapping[str, Callable[[], Row | list[Any]]]) -> None:
    """Measure rows one by one and report them; a row that fails does not stop the others.

    What a row holds on the card is freed before the next one is made.

    Args:
        name: Of the file in `results/`.
        makers: What `--only` looks at → what makes a row or several, or what they measure.
    """
    wanted = sys.argv[sys.argv.index("--only") + 1].lower() if "--only" in sys.argv else ""
    chosen = {title: make for title, make in makers.items() if wanted in title.lower()}
    if not chosen:
        sys.exit(f"no row is called {wanted!r}; there are {', '.join(makers)}")
    failed = []
    for title, make in chosen.items():
        try:
            made = make()
            parts = [made] if isinstance(made, Row) else made
            rows = [part.measure() if isinstance(part, Row) else part for part in parts]
        except Exception as error:  # noqa: BLE001 - device time is scarce: go on with the others
            print(f"{title}: FAILED, {first_line(error)}", flush=True)
            failed.append(title)
        else:
            _keep(name, rows)
            failed += [f"{row['row']}, {peer}" for row in rows for peer in row.get("left out", ())]
        made = parts = rows = None
        _release()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Print rows; with ``--save``, put them into the file, beside others of the same versions."""
    for row in rows:
        show(row)
        for peer, why in row.get("left out", {}).items():
            print(f"{'':42} {peer} LEFT OUT, {why}", flush=True)
    path = RESULTS / f"{name}.json"
    if "--save" in sys.argv and not SMALL:
        old = json.loads(path.read_text()) if path.exists() else {}
        new = {row["row"]: row for row in rows}
        same = old.get("versions") == versions()
        others = [r for r in old["rows"] if r["row"] not in new] if same else []
        save(name, [*others, *rows], versions())
