"""Families that load on first use: the table is true, and `import fgrad` loads none of them."""

import importlib
import subprocess
import sys

import pytest

from fgrad import lax

FAMILIES = [f for f in lax._FAMILIES if f != "linalg"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_lists_what_the_family_exports(family):
    module = importlib.import_module(f"fgrad.lax.{family}")
    assert sorted(lax._FAMILIES[family].split()) == sorted(module.__all__)


def test_import_loads_none_of_them():
    code = "import sys, fgrad; print(*[m for m in sys.modules if m.startswith('fgrad.lax.')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {m.split(".")[2] for m in run.stdout.split()}
    assert not loaded & set(lax._FAMILIES)


def test_names_resolve_and_unknown_ones_do_not():
    assert callable(lax.scan)
    assert lax.linalg.cholesky
    assert "scan" in dir(lax)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lax.nothing  # noqa: B018
