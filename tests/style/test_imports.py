"""What imports what: heavy libraries at first use only, and no import hidden in a function."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Imported inside the functions that need them, and never by `import fgrad` itself.
LAZY = {"cupy", "cupyx", "llvmlite", "opt_einsum", "optree", "scipy"}
# (path, module) → reason, for any other import inside a function.
INNER_IMPORTS: dict[tuple[str, str], str] = {
    ("fgrad/api/parameters.py", "inspect"): "slow to import, and needed for static arguments only",
    ("fgrad/core/transforms/custom/arguments.py", "inspect"): "slow to import, and rarely needed",
    ("fgrad/core/config.py", "difflib"): "slow to import, and needed for one message only",
}
# These may import the public face, `fgrad` itself; for the others that would be a cycle.
ON_TOP = ("fgrad/__main__.py", "fgrad/testing/")


def _modules() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted((ROOT / "fgrad").rglob("*.py"))
    ]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "."]
    return []


def _inner_imports(tree: ast.Module) -> set[str]:
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {name for f in functions for node in ast.walk(f) for name in _imported(node)}


def test_importing_fgrad_loads_no_heavy_library():
    code = "import sys, fgrad\nprint(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "fgrad" in loaded
    assert not loaded & LAZY


def test_imports_inside_functions_are_of_lazy_libraries_only():
    found = {(path, name) for path, tree in _modules() for name in _inner_imports(tree)}
    found = {(path, name) for path, name in found if name.split(".")[0] not in LAZY}
    assert found == INNER_IMPORTS.keys()


def test_lazy_libraries_are_not_imported_at_module_level():
    found = [
        (path, name)
        for path, tree in _modules()
        if not path.startswith("fgrad/backends/")
        for node in tree.body
        for name in _imported(node)
        if name.split(".")[0] in LAZY
    ]
    assert not found


def test_only_the_top_imports_the_public_face():
    found = []
    for path, tree in _modules():
        if path.startswith(ON_TOP):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any(a.name == "fgrad" for a in node.names):
                found.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "fgrad":
                # `from fgrad import lax` names a subpackage: import-linter checks its layer.
                names = [a.name for a in node.names]
                missing = [n for n in names if not _is_module(n)]
                found += [f"{path}:{node.lineno} {n}" for n in missing]
    assert not found


def _is_module(name: str) -> bool:
    return (ROOT / "fgrad" / name).is_dir() or (ROOT / "fgrad" / f"{name}.py").is_file()
