import ml_dtypes
import numpy as np
import pytest

from fgrad.core import dtype_kinds as dk
from fgrad.core.config import enable_x64
from fgrad.core.errors import DtypeError

KINDS = {
    "is_bool": ["bool"],
    "is_integer": [f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)],
    "is_float": ["float16", "bfloat16", "float32", "float64", *(d.name for d in dk.FLOAT8)],
    "is_complex": ["complex64", "complex128"],
}
UNION = {
    "is_inexact": KINDS["is_float"] + KINDS["is_complex"],
    "is_signed": KINDS["is_float"] + KINDS["is_complex"] + KINDS["is_integer"][:4],
}


@pytest.mark.parametrize("spec", dk.ALL, ids=str)
def test_a_dtype_is_recognised_in_every_form_and_never_narrowed(spec):
    assert dk.dtype(spec) is spec or dk.dtype(spec) == spec
    assert dk.dtype(spec.type) == dk.dtype(spec.name) == dk.dtype(spec.newbyteorder("S")) == spec
    with enable_x64(True):
        assert dk.dtype(spec.type) == spec


def test_every_float8_of_ml_dtypes_is_there():
    names = {n for n in dir(ml_dtypes) if n.startswith("float8_")}
    assert {d.name for d in dk.FLOAT8} == names


def test_numbers_of_native_dtypes_are_those_of_no_other_dtype():
    native = {"b": ["?"], "i": "bhilq", "u": "BHILQ", "f": "fd", "c": "FD"}
    assert {k: {np.dtype(c).num for c in v} for k, v in native.items()} == dk.NATIVE
    others = [np.dtype(getattr(ml_dtypes, n)).num for n in dir(ml_dtypes) if n[-1].isdigit()]
    assert not set().union(*dk.NATIVE.values()) & {*others, dk.F16.num, *(d.num for d in dk.FLOAT8)}


@pytest.mark.parametrize("name", [*KINDS, *UNION])
@pytest.mark.parametrize("spec", [*dk.ALL, dk.float0], ids=str)
def test_kind_predicates(name, spec):
    predicate, members = getattr(dk, name), {**KINDS, **UNION}[name]
    expected = spec.name in members
    assert predicate(spec) is expected
    if spec != dk.float0:
        assert predicate(spec.type) is predicate(spec.name) is expected
        assert predicate(spec.newbyteorder("S")) is expected


@pytest.mark.parametrize("spec", [object, "datetime64[s]", np.longdouble, "U3", [("a", int)]])
def test_other_dtypes_are_refused_and_of_no_kind(spec):
    with pytest.raises(DtypeError, match=r"not supported; supported are bool, uint8.*complex128"):
        dk.dtype(spec)
    assert not dk.is_supported(spec)
    assert not any(getattr(dk, name)(spec) for name in [*KINDS, *UNION])


def test_what_is_no_dtype_is_refused():
    with pytest.raises(DtypeError, match="'flot32' is not a dtype"):
        dk.dtype("flot32")
    with pytest.raises(DtypeError, match="leave dtype out"):
        dk.dtype(None)


def test_python_types_mean_the_defaults():
    for spec, narrow, wide in [
        (int, "int32", "int64"),
        (float, "float32", "float64"),
        (complex, "complex64", "complex128"),
        ("int", "int32", "int64"),
        ("float", "float32", "float64"),
    ]:
        assert dk.dtype(spec).name == narrow
        with enable_x64(True):
            assert dk.dtype(spec).name == wide
    assert dk.dtype(bool).name == "bool"
    assert (dk.default_int(), dk.default_float(), dk.default_complex()) == (
        np.int32,
        np.float32,
        np.complex64,
    )


def test_short_names():
    found = " ".join(dk.short_name(d) for d in [*dk.ALL, dk.float0])
    assert found == (
        "b u8 u16 u32 u64 i8 i16 i32 i64 f8_e3m4 f8_e4m3 f8_e4m3b11fnuz f8_e4m3fn f8_e4m3fnuz "
        "f8_e5m2 f8_e5m2fnuz f8_e8m0fnu f16 bf16 f32 f64 c64 c128 float0"
    )
    assert dk.short_name("float32") == dk.short_name(np.float32) == "f32"
    assert dk.short_name(object) == "object"


def test_float0_has_no_bits():
    assert dk.float0 == np.dtype([("float0", np.void, 0)])
    assert dk.float0.itemsize == 0
    assert dk.dtype("float0") == dk.float0
