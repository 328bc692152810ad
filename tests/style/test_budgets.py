"""No module and no function outgrows a screen or two, but those listed here with their reason."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES = 400
FUNCTION_LINES = 50

# path → reason. An entry that is no longer needed fails the test, so the lists only shrink.
LONG_MODULES: dict[str, str] = {
    "fgrad/core/primitive.py": "a primitive's record and the plain data of its fields",
    "fgrad/lax/reduce.py": "the reductions of every monoid and what they share; one screen each",
    "fgrad/numpy/elementary.py": "the elementwise functions of NumPy, a few lines each",
    "fgrad/lax/slicing.py": "slices and padding with all their rules; one screen each",
    "fgrad/lax/normalize.py": "three row-wise primitives and what they share; one screen each",
}
# "path:qualified name" → reason
LONG_FUNCTIONS: dict[str, str] = {}


def _modules() -> list[Path]:
    return sorted(path for part in ("fgrad", "examples") for path in (ROOT / part).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(tree: ast.AST, prefix: str = "") -> list[tuple[str, ast.FunctionDef]]:
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((prefix + node.name, node))
        inner = f"{prefix}{node.name}." if hasattr(node, "name") else prefix
        found += _functions(node, inner)
    return found


def _code_lines(node: ast.FunctionDef) -> int:
    """Lines of a function less its docstring, of which there cannot be too much."""
    first = node.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
    return node.end_lineno - node.lineno + 1 - docstring


def _compare(found: dict[str, int], allowed: dict[str, str], limit: int) -> None:
    extra = {name: lines for name, lines in found.items() if name not in allowed}
    assert not extra, f"over {limit} lines; split, or list with a reason: {extra}"
    stale = sorted(allowed.keys() - found.keys())
    assert not stale, f"within {limit} lines now; remove from the list: {stale}"
    assert all(len(reason) > 20 for reason in allowed.values()), "each entry needs its reason"


def test_modules_keep_their_budget():
    lines = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _modules()}
    assert lines
    over = {name: count for name, count in lines.items() if count > MODULE_LINES}
    _compare(over, LONG_MODULES, MODULE_LINES)


def test_functions_keep_their_budget():
    over = {}
    for path in _modules():
        for name, node in _functions(ast.parse(path.read_text(encoding="utf-8"))):
            if _code_lines(node) > FUNCTION_LINES:
                over[f"{_name(path)}:{name}"] = _code_lines(node)
    _compare(over, LONG_FUNCTIONS, FUNCTION_LINES)


def test_the_count_leaves_out_the_docstring_only():
    documented = """
class C:
    def f(self):
        '''One.

        Two.
        '''
        return 1
"""
    [(name, node)] = _functions(ast.parse(documented))
    assert name == "C.f"
    assert _code_lines(node) == 2
