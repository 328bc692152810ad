"""fgrad: composable transforms of pure functions over NumPy and CuPy arrays."""

from importlib import import_module
from typing import Any

from fgrad.compile.collector import paused

with paused():  # collections would take a tenth of the time of these imports
    from fgrad import numpy
    from fgrad.api import block_until_ready, jit
    from fgrad.core.avals import ShapedArray
    from fgrad.core.config import config
    from fgrad.core.dtypes import float0
    from fgrad.core.ir import ClosedJaxpr, Jaxpr
    from fgrad.core.tracing import Array
    from fgrad.core.transforms.custom import custom_jvp, custom_vjp, tap
    from fgrad.core.transforms.grad import grad, value_and_grad, vjp
    from fgrad.core.transforms.look import closure_convert, eval_shape, make_jaxpr
    from fgrad.core.transforms.policies import checkpoint_name
    from fgrad.core.transforms.remat import checkpoint
    from fgrad.core.transforms.residuals import saved_residuals
    from fgrad.core.transforms.tangents import jvp, linear_transpose, linearize
    from fgrad.core.transforms.vmap import vmap

remat = checkpoint

__version__ = "0.1.0"

# Loaded on first use: a module, or an attribute of one.
_LAZY_MODULES = (
    "checkpoint_policies", "debug", "dtypes", "errors", "flatten_util", "nn", "ops", "optim",
    "random", "testing", "tree", "tree_util",
)  # fmt: skip
_LAZY_NAMES = {
    "hessian": "derivatives", "hvp": "derivatives", "jacfwd": "derivatives",
    "jacobian": "derivatives", "jacrev": "derivatives",
    "pure_callback": "lax.host", "io_callback": "lax.host", "named_scope": "lax.host",
    "enable_x64": "core.config", "debug_nans": "core.config", "disable_jit": "core.config",
    "default_matmul_precision": "core.config", "numpy_dtype_promotion": "core.config",
    "numpy_rank_promotion": "core.config", "check_tracer_leaks": "core.config",
    "cpu_compiler": "core.config", "cuda_compiler": "core.config", "clear_caches": "api.execution",
    "debug_infs": "core.config", "key_reuse": "core.config", "out_of_bounds": "core.config",
    "ShapeDtypeStruct": "core.avals", "cuda_kernel": "backends.cuda.kernel_function",
    "default_device": "core.config",
    "devices": "api.placement", "device_get": "api.placement", "device_put": "api.placement",
    "memory_stats": "api.placement", "peak_memory": "api.placement",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f"fgrad.{name}")
    if name in _LAZY_NAMES:
        return getattr(import_module(f"fgrad.{_LAZY_NAMES[name]}"), name)
    raise AttributeError(f"module 'fgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES, *_LAZY_NAMES})


__all__ = [
    "Array", "ClosedJaxpr", "Jaxpr", "ShapedArray", "block_until_ready", "checkpoint",
    "checkpoint_name", "closure_convert", "config", "custom_jvp", "custom_vjp", "eval_shape",
    "float0", "grad", "jit", "jvp", "linear_transpose", "linearize", "make_jaxpr", "numpy", "remat",
    "saved_residuals", "tap", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
