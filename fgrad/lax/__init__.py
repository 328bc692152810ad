"""The primitives as functions, under the names of `jax.lax`; a family a file.

They take arrays of one dtype (Python numbers take the other operand's) and broadcast by NumPy's
rule; `fgrad.numpy` promotes dtypes on top.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from fgrad.lax.along import *  # noqa: F403
from fgrad.lax.argreduce import *  # noqa: F403
from fgrad.lax.arithmetic import *  # noqa: F403
from fgrad.lax.bits import *  # noqa: F403
from fgrad.lax.compare import *  # noqa: F403
from fgrad.lax.complex import *  # noqa: F403
from fgrad.lax.contract import *  # noqa: F403
from fgrad.lax.conv import *  # noqa: F403
from fgrad.lax.conv_forms import *  # noqa: F403
from fgrad.lax.convert import *  # noqa: F403
from fgrad.lax.creation import *  # noqa: F403
from fgrad.lax.cumulative import *  # noqa: F403
from fgrad.lax.dynamic import *  # noqa: F403
from fgrad.lax.elementary import *  # noqa: F403
from fgrad.lax.extrema import *  # noqa: F403
from fgrad.lax.gather import *  # noqa: F403
from fgrad.lax.index import *  # noqa: F403
from fgrad.lax.joining import *  # noqa: F403
from fgrad.lax.normalize import *  # noqa: F403
from fgrad.lax.powers import *  # noqa: F403
from fgrad.lax.reduce import *  # noqa: F403
from fgrad.lax.rounding import *  # noqa: F403
from fgrad.lax.runs import *  # noqa: F403
from fgrad.lax.scans import *  # noqa: F403
from fgrad.lax.scatter import *  # noqa: F403
from fgrad.lax.scattering import *  # noqa: F403
from fgrad.lax.segments import *  # noqa: F403
from fgrad.lax.selection import *  # noqa: F403
from fgrad.lax.shape import *  # noqa: F403
from fgrad.lax.slicing import *  # noqa: F403
from fgrad.lax.sort import *  # noqa: F403
from fgrad.lax.take import *  # noqa: F403
from fgrad.lax.trigonometric import *  # noqa: F403

# Families that few programs need load on first use; `tests/lax/test_lazy.py` keeps the table true.
_FAMILIES = {
    "linalg": "linalg",
    "attention": "attention_grad_p attention_p dot_product_attention",
    "activation": (
        "gelu gelu_p log_sigmoid log_sigmoid_p relu relu_p silu silu_p softplus softplus_p"
    ),
    "bessel": "bessel_i0e bessel_i0e_p bessel_i1e bessel_i1e_p",
    "collective": "axis_index axis_size pmax pmean pmin psum",
    "cross_entropy": (
        "softmax_cross_entropy softmax_cross_entropy_labels_p softmax_cross_entropy_p"
    ),
    "control": "associative_scan cond fori_loop map scan switch while_loop",
    "exchange": "all_to_all ppermute pshuffle pswapaxes",
    "fourier": "FftType fft fft_p",
    "gathering": "all_gather psum_scatter",
    "host": "debug_callback io_callback named_scope pure_callback",
    "incomplete_gamma": (
        "gamma_quantile_slope gamma_quantile_slope_p igamma igamma_grad_a igamma_p igammac "
        "igammac_p random_gamma_grad"
    ),
    "placement": "device_put_p place",
    "special": (
        "betainc digamma digamma_p erf erf_inv erf_inv_p erf_p erfc erfc_p "
        "lgamma lgamma_p polygamma polygamma_p "
        "regularized_incomplete_beta_p zeta zeta_p"
    ),
    "threefry": "random_bits random_fold_in random_split",
    "window": (
        "reduce_window reduce_window_max_p reduce_window_min_p reduce_window_sum_p "
        "select_and_gather_add_p select_and_scatter_add_p"
    ),
}
_LAZY = {name: family for family, names in _FAMILIES.items() for name in names.split()}


def __getattr__(name: str) -> _Any:
    """Load the family of a name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    family = _LAZY[name]
    module = _import_module(f"{__name__}.{family}")
    if name == family:
        return module
    # All of them at once: from now on they are attributes like any other.
    globals().update({n: getattr(module, n) for n in _FAMILIES[family].split()})
    return globals()[name]


def load_all() -> None:
    """Load every family, for those who enumerate the primitives."""
    for family, names in _FAMILIES.items():
        __getattr__(names.split()[0] if family != "linalg" else family)


def __dir__() -> list[str]:
    """The names of this module, those loaded on first use included."""
    return sorted({*globals(), *_LAZY})
