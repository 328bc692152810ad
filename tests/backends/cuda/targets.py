"""Where CUDA C of a test runs: on the CPU by `tests.shim`, or on a card (marker `gpu`)."""

import shutil

import numpy as np
import pytest

from fgrad.backends.cuda.prelude import with_prelude
from tests.shim import build

SHIM = pytest.param(
    "shim", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
)
CARD = pytest.param("card", marks=pytest.mark.gpu)


def launcher(target, source):
    """What launches kernels of some arrays, the last of which they fill, and a count."""
    return (_on_shim if target == "shim" else _on_card)(with_prelude(source))


def _on_shim(source):
    shim = build(source)

    def call(name, grid, block, arrays, count):
        shim.run(name, grid, block, 0, [*arrays, count.to_bytes(8, "little")])
        return arrays[-1]

    return call


def _on_card(source):
    import cupy

    from fgrad.backends.cuda.nvrtc import compile_source

    module = cupy.cuda.function.Module()
    module.load(compile_source(source, cupy.cuda.Device().compute_capability))

    def call(name, grid, block, arrays, count):
        # As bytes: CuPy has no dtype of bfloat16.
        there = [cupy.asarray(np.ascontiguousarray(x).view(np.uint8)) for x in arrays]
        module.get_function(name)((grid,), (block,), (*there, np.int64(count)))
        return cupy.asnumpy(there[-1]).view(arrays[-1].dtype).reshape(arrays[-1].shape)

    return call
