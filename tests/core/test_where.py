"""Places in the user's source."""

import pickle

import numpy as np
import pytest

import fgrad as fg
from fgrad.core import where


def test_a_place_is_the_callers_line():
    place = where.capture()
    assert place.file == __file__
    assert place.line == test_a_place_is_the_callers_line.__code__.co_firstlineno + 1
    assert str(place).endswith(f"test_where.py:{place.line} (test_a_place_is_the_callers_line)")


def test_a_place_is_saved_as_text():
    place = where.capture()
    assert str(pickle.loads(pickle.dumps(place))) == str(place)


def test_frames_of_the_library_are_passed_over():
    assert where.is_internal(where.__file__)
    assert not where.is_internal(__file__)


def test_frames_of_numpy_are_passed_over():
    with pytest.raises(fg.errors.TracerArrayConversionError, match=r"at .*test_where\.py:\d+ \("):
        fg.grad(lambda x: np.sum([x, x]))(1.0)


def test_the_line_of_the_recorded_equation_goes_first_but_not_in_user_code():
    here = where.capture()
    where.local.source = here
    try:
        assert where.here() is here
        with where.user_lines():
            assert where.here().line != here.line
        assert where.here() is here
    finally:
        where.local.source = None
