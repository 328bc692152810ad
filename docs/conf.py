"""Sphinx configuration: MyST pages, warnings as errors (`make docs`)."""

import builtins
import tomllib
from pathlib import Path
from typing import Any

import fgrad.errors
import fgrad.tree
import fgrad.tree_util

ROOT = Path(__file__).resolve().parents[1]

project = "fgrad"
author = "the fgrad developers"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [
    ("py:class", "collections.abc.Callable"),
    ("py:class", "collections.abc.Mapping"),
    ("py:class", "fgrad.core.ir.Eqn"),
    ("py:class", "fgrad.core.treedef.TreeDef"),
    ("py:class", "numpy.dtype"),
]

html_theme = "furo"
html_title = f"fgrad {release}"

autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Derivatives", "Kinks", "Numerics", "Source"]


def _leave_out(_app: Any, what: str, _name: str, value: Any, skip: bool, _options: Any) -> bool:
    """Leave out of a module's page what is not a function or class of fgrad's."""
    ours = (getattr(value, "__module__", None) or "").startswith("fgrad")
    return skip or (what == "module" and not (ours and callable(value)))


def _to_page(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Lead bare names in docstrings to the page that has them; built-in names stay text."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    for module in (fgrad.errors, fgrad.tree_util, fgrad.tree):
        if name in module.__all__:
            target = f"{module.__name__}.{name}"
            kind = "exc" if module is fgrad.errors else "obj"
            place = env.get_domain("py")
            return place.resolve_xref(env, node["refdoc"], app.builder, kind, target, node, text)
    return text if hasattr(builtins, name) else None


def setup(app: Any) -> None:
    """Connect the two functions above."""
    app.connect("autodoc-skip-member", _leave_out)
    app.connect("missing-reference", _to_page)
