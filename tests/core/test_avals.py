import pickle

import numpy as np
import pytest

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray

F32 = np.dtype("float32")


def test_sizes():
    aval = ShapedArray((2, 3, 4), np.dtype("bfloat16"))
    assert (aval.ndim, aval.size, aval.nbytes) == (3, 24, 48)
    scalar = ShapedArray((), F32)
    assert (scalar.ndim, scalar.size, scalar.nbytes) == (0, 1, 4)
    assert ShapedArray((3, 0), F32).nbytes == 0
    assert ShapedArray((5,), dtypes.float0).nbytes == 0


def test_equality_and_hash_take_all_three_attributes():
    a = ShapedArray((2,), F32)
    same = ShapedArray((2,), np.dtype("f4"))
    assert a == same
    assert hash(a) == hash(same) == hash(a)
    others = [
        ShapedArray((3,), F32),
        ShapedArray((2,), np.dtype("int32")),
        ShapedArray((2,), F32, True),
        "f32[2]",
    ]
    assert all(a != other for other in others)
    assert len({a, same, *others}) == 5


@pytest.mark.parametrize(
    ("aval", "text", "representation"),
    [
        (ShapedArray((2, 3), F32), "f32[2,3]", "f32[2,3]"),
        (ShapedArray((), F32, True), "f32[]", "f32[]{weak}"),
        (ShapedArray((1,), np.dtype(bool)), "b[1]", "b[1]"),
        (ShapedArray((4,), np.dtype("float8_e4m3fn")), "f8_e4m3fn[4]", "f8_e4m3fn[4]"),
        (ShapedArray((4,), dtypes.float0), "float0[4]", "float0[4]"),
    ],
)
def test_text(aval, text, representation):
    assert str(aval) == aval.str_short() == text
    assert repr(aval) == representation


def test_tangents_are_strong_and_float0_where_not_inexact():
    assert ShapedArray((2,), F32, True).tangent() == ShapedArray((2,), F32)
    assert ShapedArray((2,), np.dtype("complex64")).tangent().dtype == np.complex64
    for name in ("int32", "bool", "uint8"):
        assert ShapedArray((2,), np.dtype(name), True).tangent() == ShapedArray((2,), dtypes.float0)
    tangent = ShapedArray((2,), dtypes.float0)
    assert tangent.tangent() == tangent


def test_strip_weak_and_update():
    weak = ShapedArray((2,), F32, True)
    strong = weak.strip_weak()
    assert strong == ShapedArray((2,), F32)
    assert strong.strip_weak() is strong
    assert weak.update(shape=()) == ShapedArray((), F32, True)
    assert weak.update(dtype=np.dtype(bool), weak_type=False) == ShapedArray((2,), np.dtype(bool))
    assert weak == ShapedArray((2,), F32, True)


def test_pickle():
    aval = ShapedArray((2,), np.dtype("bfloat16"), True)
    assert pickle.loads(pickle.dumps(aval)) == aval


def test_slots_leave_no_room_for_misspelt_attributes():
    with pytest.raises(AttributeError):
        ShapedArray((), F32).shpae = (1,)
