"""The import contracts name every part of the package."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_part_of_fgrad_has_a_layer():
    # lint-imports checks the directions; it cannot run where it is not installed, this can.
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    placed = {name.strip().strip("()") for layer in layers["layers"] for name in _split(layer)}
    parts = {
        path.stem
        for path in (ROOT / "fgrad").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert parts
    assert not parts - placed


def _split(layer: str) -> list[str]:
    return layer.replace(":", "|").split("|")
