"""Faults around the compiler end in an error with a way out, or in the slower path, told once."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.backends.cpu import compiler
from fgrad.backends.cpu.engine import Engine
from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.target import host
from fgrad.backends.object_cache import ObjectCache
from fgrad.core import config
from fgrad.errors import CompilationError

X = np.linspace(-2, 2, 33, dtype=np.float32)
CODE = """
import warnings
import numpy as np
import fgrad as fg, fgrad.numpy as fnp
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    x = np.linspace(-2, 2, 33, dtype=np.float32)
    for f in (lambda x: fnp.tanh(x) * 2, lambda x: fnp.sum(x * x), lambda x: fnp.exp(x)):
        assert np.allclose(fg.jit(f)(x), f(x), rtol=1e-6)
print(len(told), *(str(w.message) for w in told))
"""


def run(folder):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, "FGRAD_CACHE_DIR": str(folder)},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def fresh(monkeypatch):
    """An engine that has compiled nothing, and keeps nothing."""
    made = Functions(Engine(host(), ObjectCache(None)), 1)
    monkeypatch.setattr(compiler, "functions", lambda: made)
    monkeypatch.setattr(compiler, "engine", lambda: made.engine)
    return made


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_a_dtype_that_kernels_do_not_know_is_left_to_eager_rules(name):
    x = X.astype(getattr(ml_dtypes, name))

    def f(x):
        return fnp.where(x > x[0], x, -x)[::-1], fnp.tanh(x.astype("float32"))

    jitted = fg.jit(f)
    moved, wide = jitted(x)
    assert moved.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(moved, np.float32), np.asarray(f(x)[0], np.float32))
    np.testing.assert_allclose(wide, np.tanh(x.astype(np.float32)), rtol=1e-6)
    kinds = {s.name: s.kind for s in jitted.lower(x).schedule()}
    assert "library" in kinds.values()  # and it can be seen
    assert kinds["tanh"] == "kernel"


def test_code_that_llvm_rejects_is_an_error_whose_advice_works(fresh, monkeypatch):
    right = compiler._texts

    def wrong(*args, **kwargs):
        return [text.replace("ret void", "ret nothing") for text in right(*args, **kwargs)]

    monkeypatch.setattr(compiler, "_texts", wrong)
    f = fg.jit(lambda x: fnp.tanh(x) * 2)
    with pytest.raises(CompilationError, match=r"FGRAD_CPU_COMPILER=numpy(.|\n)*test_faults.py"):
        f(X)
    with config.cpu_compiler("numpy"):
        np.testing.assert_allclose(f(X), np.tanh(X) * 2, rtol=1e-6)
    monkeypatch.setattr(compiler, "_texts", right)
    np.testing.assert_allclose(f(X), np.tanh(X) * 2, rtol=1e-6)  # nothing wrong was kept


def test_code_that_cannot_be_linked_is_the_same_error(fresh, monkeypatch, capfd):
    right = compiler._texts

    def unlinked(*args, **kwargs):
        call = "call void @nowhere()\n  ret void"
        texts = [text.replace("ret void", call, 1) for text in right(*args, **kwargs)]
        return [f"{text}\ndeclare void @nowhere()\n" for text in texts]

    monkeypatch.setattr(compiler, "_texts", unlinked)
    with pytest.raises(CompilationError, match=r"FGRAD_CPU_COMPILER=numpy"):
        fg.jit(lambda x: fnp.tanh(x) * 3)(X)
    assert "nowhere" in capfd.readouterr().err  # LLVM's own message


def test_a_damaged_cache_heals_itself_without_a_word(tmp_path):
    assert run(tmp_path) == "0\n"
    files = sorted((tmp_path / "cpu").iterdir())
    assert len(files) >= 3
    whole = [f.read_bytes() for f in files]
    for k, f in enumerate(files):
        content = whole[k]
        damaged = (b"", content[:-9], content[:60] + b"\0\1\2\3" + content[64:])[k % 3]
        f.write_bytes(damaged)
    assert run(tmp_path) == "0\n"
    assert [f.read_bytes()[:47] for f in files] == [w[:47] for w in whole]


def test_a_cache_that_cannot_be_written_is_told_once_and_changes_no_number(tmp_path):
    (tmp_path / "file").write_text("no folder")
    out = run(tmp_path / "file")
    assert out.startswith("1 fgrad keeps no machine code on disk, so every process compiles anew")
    assert "set FGRAD_CACHE_DIR" in out
