"""CuPy's arrays are recognised by the module of their type, without importing CuPy."""

import subprocess
import sys

import fgrad  # noqa: F401 - registers the backend
from fgrad.core.evaluate import is_buffer


def test_a_type_of_cupy_is_a_buffer():
    fake = type("ndarray", (), {"__module__": "cupy"})
    assert is_buffer(fake())
    assert not is_buffer(object())


def test_registering_does_not_import_cupy():
    code = "import sys, fgrad; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
