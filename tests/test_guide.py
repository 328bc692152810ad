"""The code in the README and in the guide runs, and prints what the pages say."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def python_blocks(text: str) -> str:
    """The lines of the fenced ``python`` blocks at their places, all other lines empty."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            inside = not inside and fence.group(1) == "python"
        kept.append(line if inside and not fence else "")
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page):
    text = page.read_text(encoding="utf-8")
    code = python_blocks(text)
    example = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    # A block of plain statements would be left out silently.
    assert sum(line.startswith(">>> ") for line in code.splitlines()) == len(example.examples)
    assert bool(example.examples) == ("```python" in text)
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert results.failed == 0, "".join(report)


def test_a_wrong_result_on_a_page_is_found():
    code = python_blocks("text\n\n```python\n>>> 1 + 1\n3\n```\n\n```sh\n>>> no\n```\n")
    example = doctest.DocTestParser().get_doctest(code, {}, "page", "page", 0)
    assert [e.lineno for e in example.examples] == [3]
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda _: None).failed == 1
