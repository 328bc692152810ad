"""What `import fgrad` loads; how long it takes beside NumPy is a row of `benchmarks/cpu/language`.

Time is not asserted: it is decided by how many modules load, how large their code is, and which
libraries come along, and these do not depend on the machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = """
import json, marshal, sys
import numpy, ml_dtypes
before = set(sys.modules)
import fgrad
after = sorted(set(sys.modules) - before)
code = 0
for name in after:
    if name.startswith("fgrad"):
        path = sys.modules[name].__file__
        with open(path) as source:
            code += len(marshal.dumps(compile(source.read(), path, "exec")))
print(json.dumps({"modules": after, "code": code}))
"""


@pytest.fixture(scope="module")
def loaded():
    run = subprocess.run(
        [sys.executable, "-c", REPORT], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout)


def test_import_brings_along_numpy_and_ml_dtypes_only(loaded):
    foreign = {m for m in loaded["modules"] if not m.startswith("fgrad")}
    assert foreign <= set(sys.stdlib_module_names)
    assert not foreign & {"dataclasses", "asyncio", "html", "logging", "multiprocessing"}


def test_import_loads_a_bounded_amount_of_code(loaded):
    own = [m for m in loaded["modules"] if m.startswith("fgrad")]
    assert len(own) <= 135, "load rarely used modules on first use"
    assert loaded["code"] <= 1_900_000, "bytes of byte code; load rarely used modules on first use"


@pytest.mark.parametrize("part", ["compile.lower", "backends.cpu", "nn", "optim", "random"])
def test_import_leaves_parts_for_their_first_use(loaded, part):
    name = f"fgrad.{part}"
    assert not [m for m in loaded["modules"] if m == name or m.startswith(name + ".")]
