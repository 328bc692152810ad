"""The scalar language: operators, and parts with names."""

import pytest

from fgrad.core.errors import RuleError
from fgrad.core.scalar import parse


def test_a_named_part_is_one_object_wherever_it_is_used():
    out = parse("t = x * x; u = t + 1; u * u + t")
    _, (_, left, right), last = out
    assert left is right
    assert left[1] is last == ("mul", "x", "x")


def test_a_name_may_be_given_again():
    assert parse("x = x + 1; x = x * 2; x") == ("mul", ("add", "x", 1), 2)


def test_comparisons_define_nothing():
    assert parse("x == y") == ("eq", "x", "y")


@pytest.mark.parametrize("text", ["t = ; t", "t = x", "", "x = x + 1;"])
def test_what_is_not_well_formed_raises(text):
    with pytest.raises(RuleError):
        parse(text)
