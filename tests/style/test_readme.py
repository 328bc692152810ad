"""The README's two commands are what CI runs, and its example runs."""

import doctest
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = runpy.run_path(str(ROOT / ".ci" / "readme_command.py"))["commands"]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_first_block_holds_the_two_commands():
    assert COMMANDS(README) == {
        "main": 'pip install -e ".[examples]" && python examples/flux/train.py --out out',
        "test": 'pip install -e ".[test]" && pytest -q -n 2',
    }


def test_ci_runs_the_readmes_commands_and_no_copy_of_them():
    assert "$(python .ci/readme_command.py test)" in CI
    assert "$(python .ci/readme_command.py main)" in CI
    code = [line for line in CI.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in code if "pytest" in line]


def test_ci_runs_the_notebooks_and_builds_the_documentation():
    assert "make notebooks\n" in CI
    assert "make docs\n" in CI
    assert ",docs]" in CI


def test_ci_can_be_run_and_stops_at_the_first_failure():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "\nset -euo pipefail\n" in CI
    assert "||" not in CI


@pytest.mark.parametrize("block", ["", "```sh\none\n```\n", "```sh\na\nb\nc\n```\n"])
def test_a_readme_without_exactly_two_commands_is_an_error(block):
    with pytest.raises(ValueError, match="must hold 2 commands"):
        COMMANDS("# A title\n" + block)


@pytest.mark.parametrize("name", ["main", "test"])
def test_the_script_prints_the_command(name):
    script = [sys.executable, str(ROOT / ".ci" / "readme_command.py"), name]
    run = subprocess.run(script, check=True, capture_output=True, text=True)
    assert run.stdout.rstrip("\n") == COMMANDS(README)[name]


def test_the_readmes_example_runs():
    parser = doctest.DocTestParser()
    example = parser.get_doctest(README, {}, "README.md", "README.md", 0)
    assert example.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    results = runner.run(example, out=report.append)
    assert results.failed == 0, "".join(report)
