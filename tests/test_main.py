"""The command line: cards of primitives, programs, kernels; what is wrong with a command."""

import subprocess
import sys
from pathlib import Path

import pytest

import fgrad as fg
from fgrad.__main__ import main
from fgrad.core import config

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
    assert out.startswith("kernel tanh outer[] inner[6]")
    assert "6 operations, 48 bytes" in out
    assert "48 bytes at the peak: inputs 24, results 24, temporaries 0" in out


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("float32[2, 3]", "f32[2,3]"),
        ("bool", "b[]"),
        ("b[4]", "b[4]"),
        ("bf16[1]", "bf16[1]"),
        ("f8_e4m3fn[5]", "f8_e4m3fn[5]"),
        ("uint8", "u8[]"),
    ],
)
def test_types_are_taken_as_they_are_printed(capsys, text, printed):
    status, out, _ = run(capsys, "jaxpr", "fgrad.numpy:ravel", text)
    assert status == 0
    assert f"a:{printed}." in out


def affine(x, w):
    return fg.numpy.exp(x @ w)


def test_explain_tells_the_steps_of_a_function_with_costs_and_lines(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "affine_module", sys.modules[__name__])
    status, out, _ = run(capsys, "explain", "affine_module:affine", "f32[2,3]", "f32[3,4]")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["step", "kind", "name", "writes", "operations", "bytes"]
    assert lines[1].split() == ["0", "library", "dot_general", "float32[2,", "4]", "48", "104"]
    line = affine.__code__.co_firstlineno + 1
    assert lines[2] == f"      at {__file__}:{line} (affine)"
    assert lines[3].split() == ["1", "kernel", "exp", "float32[2,", "4]", "8", "64"]
    assert lines[-2] == "in all 56 operations, 168 bytes"
    assert lines[-1].startswith("memory 168 bytes at the peak")
    with config.cpu_compiler("numpy"):
        status, out, _ = run(capsys, "explain", "affine_module:affine", "f32[2,3]", "f32[3,4]")
    assert status == 0
    assert "memory: the memory of a program is planned by the compiler" in out


def test_trace_tells_the_times_of_a_call(capsys):
    status, out, _ = run(capsys, "trace", "fgrad.numpy:exp", "f32[2,3]")
    assert status == 0
    assert out.split()[:2] == ["exp", "kernel"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "python -m fgrad explain"),
        (("explain",), "python -m fgrad explain"),
        (("what", "tanh"), "python -m fgrad explain"),
        (("explain", "tanh", "f32"), "write module:function"),
        (("explain", "tan_h"), "no primitive 'tan_h'"),
        (("explain", "anh"), "tanh"),
        (("explain", "tanhh"), "names like it: tanh, "),
        (("explain", "qqqq"), "no name is like it"),
        (("trace", "fgrad.numpy:ravel", "f32[10000000000000000]"), "emory"),
        (("jaxpr", "fgrad.numpy:tanh", "f99[3]"), "'f99[3]' is no type"),
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


def test_an_unknown_command_is_named(capsys):
    assert main(["devices"]) == 2
    text = capsys.readouterr().err
    assert "there is no command 'devices'" in text
    assert "::" not in text
