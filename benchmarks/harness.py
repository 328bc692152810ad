"""Side-by-side timing: contenders of a row run in turns, so that noise meets all of them."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PAUSE = 0.02  # seconds
RESULTS = Path(__file__).parent / "results"


class Row:
    """One measured workload.

    Args:
        name: What is measured.
        contenders: Name → function without arguments.
        target: Of the ratio fgrad / best peer, as the project's goals state it, in words.
        number: Calls a sample.
    """

    def __init__(
        self, name: str, contenders: dict[str, Callable[[], Any]], target: str, number: int = 20
    ) -> None:
        self.name = name
        self.contenders = contenders
        self.target = target
        self.number = number

    def measure(self, samples: int = 15) -> dict[str, Any]:
        """Medians in microseconds a call, and the ratio of fgrad to each peer."""
        for f in self.contenders.values():
            for _ in range(3):
                f()
        times: dict[str, list[float]] = {name: [] for name in self.contenders}
        for _ in range(samples):
            for name, f in self.contenders.items():
                # Worker threads of the one before it still spin, and caches hold its data.
                time.sleep(_PAUSE)
                f()
                start = time.perf_counter()
                for _ in range(self.number):
                    f()
                times[name].append((time.perf_counter() - start) / self.number * 1e6)
        medians = {name: statistics.median(t) for name, t in times.items()}
        ours = medians["fgrad"]
        ratios = {name: ours / t for name, t in medians.items() if name != "fgrad"}
        return {"row": self.name, "us": medians, "fgrad / peer": ratios, "target": self.target}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = f"{lines[0].partition(':')[2].strip()}, {len(lines)} processors" if lines else ""
    return {"platform": platform.platform(), "cpu": cpu, "python": platform.python_version()}


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    unit = next(u for u in ("us", "ms", "bytes") if u in row)
    digits = 3 if unit == "ms" else 1
    cells = "  ".join(f"{k} {v:,.{digits}f} {unit}" for k, v in row[unit].items())
    ratios = "  ".join(f"/{k} {v:.2f}" for k, v in row["fgrad / peer"].items())
    sys.stdout.write(f"{row['row']:42} {cells}\n{'':42} {ratios}   target: {row['target']}\n")
    sys.stdout.flush()


def save(name: str, rows: list[dict[str, Any]], versions: dict[str, str]) -> None:
    """Write a table to `results/`."""
    RESULTS.mkdir(exist_ok=True)
    data = {"machine": machine(), "versions": versions, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


def report(name: str, rows: list[dict[str, Any]], versions: dict[str, str]) -> None:
    """Print the table; with ``--save`` write it to `results/`."""
    for row in rows:
        show(row)
    if "--save" in sys.argv:
        save(name, rows, versions)
