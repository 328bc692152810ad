"""The version of the code generator is that of its source, whatever was kept of it."""

import os
import shutil
from pathlib import Path

import pytest

from fgrad.backends.cpu import generator
from fgrad.backends.cpu.generator import FOLDER, OTHERS, version
from fgrad.backends.object_cache import ObjectCache


@pytest.fixture
def source(tmp_path):
    found = tmp_path / "cpu"
    shutil.copytree(FOLDER, found, ignore=shutil.ignore_patterns("__pycache__"))
    (found / "last.py").write_text("x = 1\n")
    return found


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(tmp_path / "cache")


@pytest.fixture
def settled(monkeypatch):
    """Files may have changed just now."""
    monkeypatch.setattr(generator, "_SETTLED_NS", -(10**12))


def reads(monkeypatch):
    """How often the source is read from now on."""
    found = []
    rglob = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda path, *a: found.append(path) or rglob(path, *a))
    return found


def test_it_covers_every_file_that_makes_code(source, cache, settled):
    versions = {version(cache, source)}
    for path in sorted(source.rglob("*.py")):
        path.write_text(path.read_text() + "\n# changed\n")
        versions.add(version(cache, source))
    assert len(versions) == 1 + len(list(source.rglob("*.py")))


def test_it_covers_what_tells_the_order_of_a_kernel(source, cache, settled, tmp_path):
    assert [path.name for path in OTHERS] == ["kernel.py"]
    other = tmp_path / "kernel.py"
    other.write_text("x = 1\n")
    before = version(cache, source, [other])
    other.write_text("x = 2\n")
    assert version(cache, source, [other]) != before


def test_the_source_is_read_once(source, cache, settled, monkeypatch):
    seen = reads(monkeypatch)
    assert version(cache, source) == version(cache, source)
    assert seen == [source]
    assert version(ObjectCache(None), source) == version(cache, source)


def test_an_edit_that_leaves_size_and_time_is_seen(source, cache, settled):
    path = source / "last.py"
    before, times = version(cache, source), path.stat()
    path.write_text("x = 2\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert version(cache, source) != before


def test_another_folder_has_its_own_version(source, cache, settled, tmp_path):
    before = version(cache, source)
    other = tmp_path / "other"
    shutil.copytree(source, other)
    assert version(cache, other) == before
    (other / "last.py").write_text("x = 2\n")
    assert version(cache, other) != before
    assert version(cache, source) == before


def test_what_has_just_changed_is_read_again(source, cache, monkeypatch):
    seen = reads(monkeypatch)
    version(cache, source)
    version(cache, source)
    assert seen == [source, source]


def test_a_damaged_entry_is_made_anew(source, cache, settled, monkeypatch):
    before = version(cache, source)
    (entry,) = cache.folder.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    seen = reads(monkeypatch)
    assert version(cache, source) == before
    assert seen == [source]
    assert version(cache, source) == before
    assert seen == [source]


def test_times_that_were_set_for_all_files_tell_nothing(tmp_path, cache, settled, monkeypatch):
    (tmp_path / "one.py").write_text("x = 1\n")
    seen = reads(monkeypatch)
    version(cache, tmp_path, ())
    version(cache, tmp_path, ())
    assert len(seen) == 2


def test_a_missing_folder_has_a_version(tmp_path, cache):
    assert version(cache, tmp_path / "none") == version(ObjectCache(None), tmp_path / "none")
