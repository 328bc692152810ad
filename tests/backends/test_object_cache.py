"""The cache on disk: entries survive or are absent, never wrong; the folder stays bounded."""

import hashlib
import os
import warnings
from pathlib import Path

import pytest

from fgrad.backends import object_cache
from fgrad.backends.object_cache import ObjectCache


def test_what_is_put_is_found(tmp_path):
    cache = ObjectCache(tmp_path / "new" / "cpu")
    assert cache.get("a") is None
    cache.put("a", b"code")
    cache.put("a", b"newer")
    assert cache.get("a") == ObjectCache(tmp_path / "new" / "cpu").get("a") == b"newer"
    cache.drop("a")
    cache.drop("a")
    assert cache.get("a") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_entry_is_absent_and_can_be_put_again(tmp_path, damage):
    cache = ObjectCache(tmp_path)
    cache.put("a", bytes(range(200)))
    path = tmp_path / "a"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(
        {"flip": data, "cut": path.read_bytes()[:-7], "empty": b"", "foreign": b"x" * 300}[damage]
    )
    assert cache.get("a") is None
    assert not path.exists()
    cache.put("a", b"again")
    assert cache.get("a") == b"again"


def test_the_entries_used_least_recently_go_first(tmp_path):
    cache = ObjectCache(tmp_path, limit_bytes=4000)
    for i, name in enumerate("abc"):
        cache.put(name, bytes(1000))
        os.utime(tmp_path / name, (1000 + i, 1000 + i))
    assert cache.get("a") == bytes(1000)  # now the latest
    cache.put("d", bytes(1000))
    assert {p.name for p in tmp_path.iterdir()} == {"a", "d"}
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 3000


def test_processes_that_write_little_keep_to_the_limit_too(tmp_path):
    for i in range(600):
        cache = ObjectCache(tmp_path, limit_bytes=100_000)  # as a process of its own would
        cache.put(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest(), bytes(1000))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 200_000


def test_no_parts_are_left_behind(tmp_path):
    cache = ObjectCache(tmp_path)
    for i in range(5):
        cache.put("a", bytes(i))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_unusable_folder_is_reported_once_and_then_left_alone(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = ObjectCache(tmp_path / "file" / "cpu")
    with pytest.warns(RuntimeWarning, match=r"keeps no machine code on disk.*FGRAD_CACHE_DIR"):
        cache.put("a", b"code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("b", b"code")
        assert cache.get("a") is None


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_a_folder_open_to_everyone_is_not_trusted(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="written to by every user"):
        ObjectCache(tmp_path).put("a", b"code")
    assert not (tmp_path / "a").exists()


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FGRAD_CACHE_DIR", str(tmp_path))
    assert object_cache.default_folder("cpu") == tmp_path / "cpu"
    monkeypatch.delenv("FGRAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert object_cache.default_folder("cpu") == tmp_path / "fgrad" / "cpu"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() in object_cache.default_folder("cpu").parents
