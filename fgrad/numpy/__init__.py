"""The array namespace: the names and meaning of ``jax.numpy``, on fgrad's primitives."""
# ruff: noqa: F401, F403 - this module re-exports

from importlib import import_module as _import_module
from typing import Any

import numpy as _np

from fgrad.core import dtypes as _dtypes
from fgrad.core.dtypes import (
    dtype as dtype,
)
from fgrad.core.dtypes import (
    finfo as finfo,
)
from fgrad.core.dtypes import (
    iinfo as iinfo,
)
from fgrad.core.dtypes import (
    issubdtype as issubdtype,
)
from fgrad.core.dtypes import (
    promote_types as promote_types,
)
from fgrad.core.dtypes import (
    result_type as result_type,
)
from fgrad.core.tracing import Array as ndarray
from fgrad.numpy.bitwise import *
from fgrad.numpy.creation import *
from fgrad.numpy.creation import placed as _placed
from fgrad.numpy.cumulative import *
from fgrad.numpy.diagonals import *
from fgrad.numpy.elementary import *
from fgrad.numpy.grids import *
from fgrad.numpy.joining import *
from fgrad.numpy.logic import *
from fgrad.numpy.members import astype as astype
from fgrad.numpy.positions import *
from fgrad.numpy.products import *
from fgrad.numpy.protocols import from_dlpack as from_dlpack
from fgrad.numpy.reductions import *
from fgrad.numpy.rounding import *
from fgrad.numpy.selection import *
from fgrad.numpy.shaping import *
from fgrad.numpy.sorting import *
from fgrad.numpy.ufuncs import *

for _name in (  # what makes arrays does so on the default device
    "arange", "array", "asarray", "empty", "eye", "full", "geomspace", "identity", "indices",
    "linspace", "logspace", "ones", "tri", "zeros",
):  # fmt: skip
    globals()[_name] = _placed(globals()[_name])

generic, number, inexact, floating = _np.generic, _np.number, _np.inexact, _np.floating
integer, signedinteger, unsignedinteger = _np.integer, _np.signedinteger, _np.unsignedinteger
complexfloating = _np.complexfloating

pi, e, euler_gamma = _np.pi, _np.e, _np.euler_gamma
inf, nan, newaxis = _np.inf, _np.nan, None

__array_api_version__ = "2024.12"

# Loaded on first use: modules, and the functions of others.
_LAZY = ("linalg", "fft")
_LAZY_NAMES = {
    name: module
    for module, names in (
        (
            "statistics",
            "bartlett blackman convolve corrcoef correlate cov hamming hanning histogram "
            "histogram2d histogram_bin_edges histogramdd kaiser",
        ),
        (
            "sets",
            "intersect1d isin setdiff1d setxor1d union1d unique unique_all unique_counts "
            "unique_inverse unique_values",
        ),
        (
            "polynomials",
            "poly polyadd polyder polyfit polyint polymul polysub polyval roots trim_zeros",
        ),
        ("quantiles", "median nanmedian nanpercentile nanquantile percentile quantile"),
        ("nanreductions", "nanmax nanmean nanmin nanprod nanstd nansum nanvar"),
        ("einsums", "einsum einsum_path"),
        ("integers", "gcd lcm"),
        ("padding", "pad"),
        ("array_api", "__array_namespace_info__"),
        ("functional", "apply_along_axis apply_over_axes vectorize"),
        (
            "extras",
            "array_repr array_str get_printoptions index_exp load mask_indices mgrid ogrid place "
            "polydiv printoptions s_ save savez set_printoptions unwrap",
        ),
    )
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return _import_module(f"fgrad.numpy.{name}")
    if name in _LAZY_NAMES:
        found = getattr(_import_module(f"fgrad.numpy.{_LAZY_NAMES[name]}"), name)
        return globals().setdefault(name, found)  # an attribute like any other from now on
    kinds = _import_module("fgrad.numpy._scalar_types") if name[:1] != "_" else None
    if kinds and name in kinds.TYPES:
        return globals().setdefault(name, kinds.TYPES[name])
    if kinds and (found := kinds.default_type(name)):
        return found
    advice = "; fgrad.random draws numbers, from explicit keys" if name == "random" else ""
    raise AttributeError(f"module 'fgrad.numpy' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    kinds = _import_module("fgrad.numpy._scalar_types").TYPES
    defaults = ("int_", "uint", "float_", "complex_")
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES, *kinds, *defaults})
