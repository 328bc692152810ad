"""What all tests share: hypothesis profiles, golden files, and no GPU test without a GPU."""

import difflib
import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fgrad import lax
from fgrad.core.config import config
from fgrad.core.homes import made_on_host

# Machine code made by tests stays out of the user's cache.
os.environ.setdefault("FGRAD_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "fgrad"))

# The same tests on every machine: those of GPUs say so.
if "FGRAD_DEFAULT_DEVICE" not in os.environ and not made_on_host():
    config.update("default_device", "cpu")

# Tests that run over all primitives need all of them declared.
lax.load_all()

# A time limit on generated examples would make the suite depend on the machine's load.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("ci", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("fast", max_examples=8, derandomize=True, **_COMMON)
# In a CI environment hypothesis would make it deterministic by default.
settings.register_profile("nightly", max_examples=2000, derandomize=False, **_COMMON)
settings.load_profile(os.environ.get("FGRAD_HYPOTHESIS_PROFILE") or "ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden/ from what the tests produce; review with git diff",
    )


def _has_cuda_device() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:  # CuPy without a driver
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_cuda_device():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device, or CuPy is not installed"))


class Golden:
    """Texts kept as plain files: a change of output shows as a diff, and is reviewed as one."""

    def __init__(self, folder: Path, *, update: bool) -> None:
        self.folder = folder
        self.update = update

    def check(self, name: str, text: str) -> None:
        """Fails unless ``text`` is what the file ``name`` in the folder holds."""
        path = self.folder / name
        text = text.rstrip("\n") + "\n"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"no golden file {name}; write it with --update-golden and review it")
        kept = path.read_text(encoding="utf-8")
        if kept != text:
            lines = difflib.unified_diff(
                kept.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm=""
            )
            pytest.fail("\n".join(lines) + "\nif meant, write it with --update-golden")


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden files of ``tests/golden``: ``golden.check("jaxpr/sin.txt", str(jaxpr))``."""
    folder = Path(__file__).parent / "golden"
    return Golden(folder, update=request.config.getoption("--update-golden"))
