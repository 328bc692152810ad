"""The golden fixture: writes when asked, and otherwise fails on any difference."""

import pytest


def test_a_golden_file_is_written_when_asked_and_then_compared(golden, tmp_path):
    type(golden)(tmp_path, update=True).check("folder/one.txt", "first\nsecond")
    assert (tmp_path / "folder" / "one.txt").read_text() == "first\nsecond\n"

    reader = type(golden)(tmp_path, update=False)
    reader.check("folder/one.txt", "first\nsecond\n")
    with pytest.raises(pytest.fail.Exception, match=r"-second\n\+third"):
        reader.check("folder/one.txt", "first\nthird")


def test_a_missing_golden_file_is_a_failure_that_says_what_to_do(golden, tmp_path):
    with pytest.raises(pytest.fail.Exception, match="--update-golden"):
        type(golden)(tmp_path, update=False).check("none.txt", "text")
    assert not (tmp_path / "none.txt").exists()
