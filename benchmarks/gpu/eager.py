"""Eager gradients on CuPy buffers beside PyTorch eager on the same card.

Programs are not compiled for the GPU yet: each primitive is a CuPy call, so these rows say what
the eager path costs today, not what fused kernels will.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import cupy
import numpy as np
import torch
from harness import Row, report

import fgrad as fg
import fgrad.numpy as fnp


def perceptron(width: int, batch: int) -> Row:
    """Gradient of a 3-layer perceptron with tanh, not compiled."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(width, width)).astype(np.float32) / width**0.5 for _ in range(3)]
    x = rng.normal(size=(batch, width)).astype(np.float32)

    def loss(ws: Any, v: Any) -> Any:
        for w in ws:
            v = fnp.tanh(v @ w)
        return fnp.mean(v * v)

    ours = fg.grad(loss)
    fw = [fnp.asarray(cupy.asarray(w)) for w in weights]
    fx = fnp.asarray(cupy.asarray(x))
    tw = [torch.tensor(w, device="cuda", requires_grad=True) for w in weights]
    tx = torch.tensor(x, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False

    def run() -> None:
        ours(fw, fx)
        cupy.cuda.get_current_stream().synchronize()

    def in_torch() -> None:
        v = tx
        for w in tw:
            v = torch.tanh(v @ w)
        torch.autograd.grad((v * v).mean(), tw)
        torch.cuda.synchronize()

    got = [cupy.asnumpy(g._data) for g in ours(fw, fx)]
    want = fg.grad(loss)([w.astype(np.float64) for w in weights], x.astype(np.float64))
    for g, w in zip(got, want, strict=True):
        error = np.linalg.norm(g - np.asarray(w)) / np.linalg.norm(np.asarray(w))
        assert error < 1e-5, error
    return Row(
        f"eager grad, 3 layers of {width}, batch {batch}",
        {"fgrad": run, "torch": in_torch},
        "none yet",
        number=10,
    )


def main() -> None:
    """Measure all rows."""
    rows = [perceptron(w, b).measure() for w, b in ((256, 256), (4096, 4096))]
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    versions = {"gpu": name, "cupy": cupy.__version__, "torch": str(torch.__version__)}
    report("gpu_eager", rows, versions)


if __name__ == "__main__":
    main()
