"""The hypothesis profiles are what docs/guide/tests.md promises."""

import os

import pytest
from hypothesis import settings


@pytest.mark.parametrize(
    ("name", "examples", "derandomized"),
    [("fast", 8, True), ("ci", 25, True), ("nightly", 2000, False)],
)
def test_a_profile_draws_what_it_promises(name, examples, derandomized):
    profile = settings.get_profile(name)
    assert profile.max_examples == examples
    assert profile.derandomize is derandomized
    assert profile.deadline is None
    assert profile.print_blob


def test_the_environment_selects_the_profile():
    selected = os.environ.get("FGRAD_HYPOTHESIS_PROFILE") or "ci"
    assert settings().max_examples == settings.get_profile(selected).max_examples
