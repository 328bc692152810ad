import ml_dtypes
import numpy as np
import pytest

from fgrad.core import dtype_kinds, dtypes, promotion
from fgrad.core.dtype_kinds import ALL
from fgrad.core.errors import DtypeError


def test_the_module_offers_all_of_kinds_and_promotion():
    for name in promotion.__all__:
        assert getattr(dtypes, name) is getattr(promotion, name)
        assert name in dtypes.__all__
    public = [n for n in dtype_kinds.__all__ if not n.isupper() and n in dtypes.__all__]
    assert {"bfloat16", "float8_e5m2", "dtype", "is_float", "default_int", "float0"} < set(public)
    assert len(set(dtypes.__all__)) == len(dtypes.__all__)


def test_to_inexact():
    for d in ALL:
        expected = d if dtypes.is_inexact(d) else np.float64 if d.itemsize == 8 else np.float32
        assert dtypes.to_inexact(d) == expected
    assert dtypes.to_inexact(dtypes.float0) == dtypes.float0


def test_real_and_complex_counterparts():
    assert dtypes.real_dtype("complex64") == np.float32
    assert dtypes.real_dtype("complex128") == np.float64
    assert dtypes.real_dtype("bfloat16").name == "bfloat16"
    assert dtypes.to_complex("float16") == dtypes.to_complex("int32") == np.complex64
    assert dtypes.to_complex("float64") == dtypes.to_complex("complex128") == np.complex128


def test_limits():
    for d in ALL:
        if dtypes.is_inexact(d):
            assert dtypes.finfo(d).eps == ml_dtypes.finfo(dtypes.real_dtype(d)).eps
            with pytest.raises(DtypeError, match="iinfo needs an integer"):
                dtypes.iinfo(d)
        else:
            with pytest.raises(DtypeError, match="finfo needs a float"):
                dtypes.finfo(d)
    assert float(dtypes.finfo("bfloat16").max) > 3.3e38
    assert dtypes.iinfo("uint8").max == 255
    with pytest.raises(DtypeError, match="iinfo needs an integer dtype, got bool"):
        dtypes.iinfo("bool")


ABSTRACT = [
    np.generic,
    np.number,
    np.integer,
    np.signedinteger,
    np.unsignedinteger,
    np.inexact,
    np.floating,
    np.complexfloating,
    np.character,
]


def test_issubdtype_counts_extended_floats_as_floating():
    for d in dtypes.float8_e4m3fn, "bfloat16", np.dtype("bfloat16"), np.float32:
        above = [t for t in ABSTRACT if dtypes.issubdtype(d, t)]
        assert above == [np.generic, np.number, np.inexact, np.floating]
    assert dtypes.issubdtype("bfloat16", dtypes.bfloat16)
    assert not dtypes.issubdtype("bfloat16", np.float16)
    assert not dtypes.issubdtype(np.float16, "bfloat16")
    assert not dtypes.issubdtype(np.floating, dtypes.bfloat16)
    assert dtypes.issubdtype(np.floating, np.inexact)
    assert not dtypes.issubdtype(np.inexact, np.floating)


@pytest.mark.peers
def test_issubdtype_is_that_of_jax():
    import jax.numpy as jnp

    specs = [*ALL, *(d.type for d in ALL), *(d.name for d in ALL), *ABSTRACT, int, float, complex]
    for a in specs:
        for b in specs:
            assert dtypes.issubdtype(a, b) == jnp.issubdtype(a, b), (a, b)


@pytest.mark.peers
def test_to_inexact_is_that_of_jax():
    import jax

    with jax.enable_x64(True):
        for d in ALL:
            if d.itemsize >= 4 or dtypes.is_inexact(d):
                assert dtypes.to_inexact(d) == jax.eval_shape(jax.numpy.sin, d.type(0)).dtype, d
