"""The command line: cards of primitives, programs, kernels; what is wrong with a command."""

import subprocess
import sys
from pathlib import Path

import pytest

from fgrad.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def run(capsys, *arguments):
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_explain_tells_where_the_rules_are(capsys):
    status, out, _ = run(capsys, "explain", "tanh")
    assert status == 0
    assert out.startswith("tanh: ")
    assert "transpose" in out
    assert "absent: " in out.lower()
    assert "fgrad.lax." in out


def test_programs_and_kernels_of_a_function(capsys):
    status, out, _ = run(capsys, "jaxpr", "fgrad.nn:softmax", "f32[2,3]")
    assert status == 0
    assert "f32[2,3]" in out
    status, out, _ = run(capsys, "kernels", "fgrad.numpy:tanh", "f32[2,3]")
    assert status == 0
    assert out.startswith("kernel  tanh  float32[2, 3]")
    assert "kernel tanh outer[] inner[6]" in out
    assert "peak 48 bytes" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "python -m fgrad explain"),
        (("explain",), "python -m fgrad explain"),
        (("what", "tanh"), "python -m fgrad explain"),
        (("explain", "tan_h"), "no primitive 'tan_h'"),
        (("explain", "anh"), "tanh"),
        (("jaxpr", "fgrad.numpy.tanh", "f32"), "write module:function"),
        (("jaxpr", "fgrad.numpy:tanhh", "f32"), "tanhh"),
        (("jaxpr", "no_such_module:f", "f32"), "no_such_module"),
        (("jaxpr", "fgrad.numpy:tanh", "float"), "'float' is no type"),
    ],
)
def test_what_is_wrong_is_said(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert not out
    assert message in err


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fgrad", "explain", "add"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("add: ")
