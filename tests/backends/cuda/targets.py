"""Where CUDA C of a test runs: on the CPU by `tests.shim`, or on a card (marker `gpu`)."""

import shutil

import pytest

from fgrad.backends.cuda.prelude import with_prelude
from tests.backends.cuda.on_card import Card
from tests.shim import build

SHIM = pytest.param(
    "shim", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
)
CARD = pytest.param("card", marks=pytest.mark.gpu)


def launcher(target, source):
    """What launches kernels of some arrays, the last of which they fill, and a count."""
    module = (build if target == "shim" else Card)(with_prelude(source))

    def call(name, grid, block, arrays, count):
        module.run(name, grid, block, 0, [*arrays, count.to_bytes(8, "little")])
        return arrays[-1]

    return call
