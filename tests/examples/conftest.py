"""Fixtures for the example programs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import fgrad

FLUX = Path(__file__).parents[2] / "examples" / "flux"


@pytest.fixture(scope="module")
def flux() -> Iterator[SimpleNamespace]:
    """The modules of examples/flux by name, imported as its scripts import each other.

    They leave ``sys.modules`` afterwards: their plain names (``model``, ``data``) may be those of
    another example.
    """
    names = [path.stem for path in FLUX.glob("*.py")]
    saved: dict[str, ModuleType] = {n: sys.modules.pop(n) for n in names if n in sys.modules}
    sys.path.insert(0, str(FLUX))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FLUX))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(saved)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment in which a process of its own imports the fgrad under test."""
    return {**os.environ, "PYTHONPATH": str(Path(fgrad.__file__).parents[1])}
