"""The primitives as functions, under the names of `jax.lax`; a family a file.

They take arrays of one dtype (Python numbers take the other operand's) and broadcast by NumPy's
rule; `fgrad.numpy` promotes dtypes on top.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from fgrad.lax.activation import *  # noqa: F403
from fgrad.lax.along import *  # noqa: F403
from fgrad.lax.argreduce import *  # noqa: F403
from fgrad.lax.arithmetic import *  # noqa: F403
from fgrad.lax.bessel import *  # noqa: F403
from fgrad.lax.bits import *  # noqa: F403
from fgrad.lax.collective import *  # noqa: F403
from fgrad.lax.compare import *  # noqa: F403
from fgrad.lax.complex import *  # noqa: F403
from fgrad.lax.contract import *  # noqa: F403
from fgrad.lax.control import *  # noqa: F403
from fgrad.lax.conv import *  # noqa: F403
from fgrad.lax.conv_forms import *  # noqa: F403
from fgrad.lax.convert import *  # noqa: F403
from fgrad.lax.creation import *  # noqa: F403
from fgrad.lax.cumulative import *  # noqa: F403
from fgrad.lax.dynamic import *  # noqa: F403
from fgrad.lax.elementary import *  # noqa: F403
from fgrad.lax.exchange import *  # noqa: F403
from fgrad.lax.extrema import *  # noqa: F403
from fgrad.lax.gather import *  # noqa: F403
from fgrad.lax.gathering import *  # noqa: F403
from fgrad.lax.host import *  # noqa: F403
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
from fgrad.lax.special import *  # noqa: F403
from fgrad.lax.take import *  # noqa: F403
from fgrad.lax.threefry import *  # noqa: F403
from fgrad.lax.trigonometric import *  # noqa: F403
from fgrad.lax.window import *  # noqa: F403

# Loaded on first use: few programs factor matrices or transform signals.
_LAZY = {"linalg": "linalg", "fft": "fourier", "fft_p": "fourier", "FftType": "fourier"}


def __getattr__(name: str) -> _Any:
    """Load the Fourier transforms and `linalg` on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _import_module(f"{__name__}.{_LAZY[name]}")
    found = module if name == _LAZY[name] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The names of this module, those loaded on first use included."""
    return sorted({*globals(), *_LAZY})
