"""The array namespace: the names and meaning of ``jax.numpy``, on fgrad's primitives."""
# ruff: noqa: F401, F403 - this module re-exports

from importlib import import_module as _import_module
from typing import Any

import numpy as _np

from fgrad.core import dtypes as _dtypes
from fgrad.core.dtypes import (
    bfloat16 as bfloat16,
)
from fgrad.core.dtypes import (
    bool_ as bool_,
)
from fgrad.core.dtypes import (
    complex64 as complex64,
)
from fgrad.core.dtypes import (
    complex128 as complex128,
)
from fgrad.core.dtypes import (
    dtype as dtype,
)
from fgrad.core.dtypes import (
    finfo as finfo,
)
from fgrad.core.dtypes import (
    float8_e3m4 as float8_e3m4,
)
from fgrad.core.dtypes import (
    float8_e4m3 as float8_e4m3,
)
from fgrad.core.dtypes import (
    float8_e4m3b11fnuz as float8_e4m3b11fnuz,
)
from fgrad.core.dtypes import (
    float8_e4m3fn as float8_e4m3fn,
)
from fgrad.core.dtypes import (
    float8_e4m3fnuz as float8_e4m3fnuz,
)
from fgrad.core.dtypes import (
    float8_e5m2 as float8_e5m2,
)
from fgrad.core.dtypes import (
    float8_e5m2fnuz as float8_e5m2fnuz,
)
from fgrad.core.dtypes import (
    float8_e8m0fnu as float8_e8m0fnu,
)
from fgrad.core.dtypes import (
    float16 as float16,
)
from fgrad.core.dtypes import (
    float32 as float32,
)
from fgrad.core.dtypes import (
    float64 as float64,
)
from fgrad.core.dtypes import (
    iinfo as iinfo,
)
from fgrad.core.dtypes import (
    int8 as int8,
)
from fgrad.core.dtypes import (
    int16 as int16,
)
from fgrad.core.dtypes import (
    int32 as int32,
)
from fgrad.core.dtypes import (
    int64 as int64,
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
from fgrad.core.dtypes import (
    uint8 as uint8,
)
from fgrad.core.dtypes import (
    uint16 as uint16,
)
from fgrad.core.dtypes import (
    uint32 as uint32,
)
from fgrad.core.dtypes import (
    uint64 as uint64,
)
from fgrad.core.tracing import Array as ndarray
from fgrad.numpy.bitwise import *
from fgrad.numpy.creation import *
from fgrad.numpy.cumulative import *
from fgrad.numpy.diagonals import *
from fgrad.numpy.einsums import *
from fgrad.numpy.elementary import *
from fgrad.numpy.grids import *
from fgrad.numpy.integers import *
from fgrad.numpy.joining import *
from fgrad.numpy.logic import *
from fgrad.numpy.members import astype as astype
from fgrad.numpy.nanreductions import *
from fgrad.numpy.padding import pad as pad
from fgrad.numpy.positions import *
from fgrad.numpy.products import *
from fgrad.numpy.protocols import from_dlpack as from_dlpack
from fgrad.numpy.quantiles import *
from fgrad.numpy.reductions import *
from fgrad.numpy.rounding import *
from fgrad.numpy.selection import *
from fgrad.numpy.shaping import *
from fgrad.numpy.sorting import *
from fgrad.numpy.ufuncs import *

bool = bool_
single, double, csingle, cdouble = float32, float64, complex64, complex128
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
        return getattr(_import_module(f"fgrad.numpy.{_LAZY_NAMES[name]}"), name)
    if name in ("int_", "uint", "float_", "complex_"):
        kind = {"int_": int, "float_": float, "complex_": complex}.get(name)
        default = _dtypes.default_int() if kind is None else _dtypes.dtype(kind)
        return _np.dtype(f"uint{8 * default.itemsize}").type if kind is None else default.type
    raise AttributeError(f"module 'fgrad.numpy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES})
