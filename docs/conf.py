"""Sphinx configuration: MyST pages, warnings as errors (`make docs`)."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "fgrad"
author = "the fgrad developers"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"fgrad {release}"
