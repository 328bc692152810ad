"""What no file of the project may hold, and what no property test may do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fgrad import errors

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("fgrad", "tests", "examples", "benchmarks", "docs", "notebooks", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".txt", ".ipynb", ".json", ""}
# A worktree has a file .git; the licence is not our text.
LEFT_OUT = {".git", "LICENSE"}
BUILT = {"__pycache__", "_build", ".ipynb_checkpoints"}

# Written so that this file does not hold them itself.
UNFINISHED = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b"]))
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:home|root|work|Users)/\w|\b[A-Z]:\\\\?Users")
# [text](target) of Markdown, but for targets with a scheme and anchors of the same page
LINK = re.compile(r"\[[^\]]*\]\((?!\w+:|#)([^)#\s]+)")
# Calls that end a property test at the first example they meet, and so hide all the others.
ENDS_THE_TEST = {"skip", "importorskip", "xfail"}


def _texts() -> Iterator[tuple[str, str]]:
    top = (path for path in ROOT.iterdir() if path.name not in LEFT_OUT)
    nested = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    for path in [*top, *nested]:
        name = path.relative_to(ROOT)
        if path.is_file() and path.suffix in SUFFIXES and not BUILT & set(name.parts):
            yield name.as_posix(), path.read_text(encoding="utf-8")


def _hits(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_unfinished():
    assert not _hits(UNFINISHED)


def test_no_file_names_a_place_on_one_machine():
    assert not _hits(MACHINE_PATH)


def test_no_dtype_is_told_by_its_character():
    """`dtype.char` of float8_e4m3b11fnuz is that of uint64; `dtype.num` is unique."""
    assert not [hit for hit in _hits(re.compile(r"\.char\b")) if hit.startswith("fgrad/")]


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, target) for page in pages for target in LINK.findall(page.read_text("utf-8"))]
    assert links
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target in links
        if not (page.parent / target).exists()
    ]
    assert not broken


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLACES = [
    "", "fgrad", "fgrad/core", "fgrad/core/transforms", "fgrad/compile", "fgrad/compile/lower",
    "fgrad/lax", "fgrad/nn",
]  # fmt: skip


def test_the_files_that_the_architecture_names_are_there():
    named = {
        name
        for line in ARCHITECTURE.splitlines()
        for name in re.findall(r"`([\w/]+(?:\.py|/))`(?! \*\*\(later)", line)
        if "(later)" not in line or (ROOT / "fgrad" / name).exists()
    }
    assert len(named) > 30
    assert not [n for n in named if not any((ROOT / place / n).exists() for place in PLACES)]


def test_the_modules_that_the_architecture_lists_are_there():
    paragraphs = re.findall(r"^\*\*`(\w+)`\.\*\* (.*)$", ARCHITECTURE, re.MULTILINE)
    lists = {package: set(re.findall(r"`(\w+)`", text)) for package, text in paragraphs}
    lax = {path.stem for path in (ROOT / "fgrad" / "lax").iterdir()}
    assert len(lists["lax"] & lax) > 30
    assert lists["lax"] - lax == {"named_scope"}


def test_the_guide_lists_every_error():
    page = (ROOT / "docs" / "guide" / "errors.md").read_text(encoding="utf-8")
    listed = {n for row in page.splitlines() if row.startswith("| `") for n in row.split("`")}
    assert set(errors.__all__) - listed == {"FgradError"}


def _is_given(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", getattr(called, "attr", "")) == "given"


def _ending_calls(tree: ast.Module) -> list[int]:
    """Lines inside a function under ``@given`` that end the whole test."""
    properties = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(map(_is_given, node.decorator_list))
    ]
    return [
        call.lineno
        for function in properties
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ENDS_THE_TEST
        and getattr(call.func.value, "id", "") == "pytest"
    ]


def test_no_property_test_skips():
    found = [
        f"{path.relative_to(ROOT)}:{line}: use hypothesis.assume, or a narrower strategy"
        for path in (ROOT / "tests").rglob("*.py")
        for line in _ending_calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("@given(st.data())\ndef test(x):\n    pytest.skip('no')\n", [3]),
        ("@hypothesis.given(x)\ndef test(x):\n    if x:\n        pytest.xfail('no')\n", [4]),
        ("def test():\n    pytest.skip('fine: it is one case')\n", []),
    ],
)
def test_the_check_for_skips_finds_them(source, lines):
    assert _ending_calls(ast.parse(source)) == lines
