"""From LLVM text to functions: found in memory, on disk, or compiled; faults have a message."""

import ctypes

import pytest

from fgrad.backends.cpu.engine import Engine
from fgrad.backends.cpu.target import Target, host
from fgrad.backends.object_cache import ObjectCache
from fgrad.errors import CompilationError

TEXT = """
define i64 @{name}(i64 %x) {{
  %y = call i64 @twice_{name}(i64 %x)
  ret i64 %y
}}
define internal i64 @twice_{name}(i64 %x) {{
  %y = mul i64 %x, {factor}
  ret i64 %y
}}
"""


class Source:
    """Renders functions that multiply, and counts what was asked for."""

    def __init__(self, factor=2):
        self.factor, self.asked = factor, []

    def __call__(self, names):
        self.asked += names
        return [TEXT.format(name=n, factor=self.factor) for n in names]


def call(code, name, x):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code[name].addresses[name])(x)


def codes(folder):
    """The entries of a cache that hold code, not the version of its generator."""
    return [path for path in folder.iterdir() if path.stat().st_size > 256]


@pytest.fixture
def make(tmp_path):
    return lambda: Engine(host(), ObjectCache(tmp_path))


def test_functions_of_a_module_are_compiled_once(make):
    engine, source = make(), Source()
    code = engine.load(["a", "b", "a"], source)
    assert (call(code, "a", 4), call(code, "b", 5)) == (8, 10)
    assert set(code["a"].addresses) == {"a", "b"}
    again = engine.load(["b", "c"], source)
    assert again["b"] is code["b"]
    assert source.asked == ["a", "b", "c"]


def test_another_process_finds_the_code_on_disk(make):
    make().load(["a", "b"], Source())
    source = Source(3)
    code = make().load(["b", "a"], source)
    assert call(code, "a", 4) == 8
    assert not source.asked


def test_an_entry_that_is_no_code_is_compiled_again(make, tmp_path):
    make().load(["a"], Source())
    [path] = codes(tmp_path)
    for content in (
        b"",
        b'\x0c\0\0\0\0\0\0\0[["a"], [7]]nothing',
        b"\x02\0\0\0\0\0\0\0[]nothing that an object file could hold",
        b"12345678",
    ):
        ObjectCache(tmp_path).put(path.name, content)
        code = make().load(["a"], Source())
        assert call(code, "a", 4) == 8
    assert ObjectCache(tmp_path).get(path.name)[8:].startswith(b'[["a"], [')


def test_code_that_was_begun_is_kept_like_other_code(make, monkeypatch):
    text, other = (TEXT.format(name="a", factor=n) for n in (2, 3))
    assert call({"a": make().begun(["a"], text)()}, "a", 4) == 8
    assert call({"a": make().begun(["a"], other)()}, "a", 4) == 12
    monkeypatch.setattr("fgrad.backends.cpu.engine.started", None)  # found on disk
    assert call({"a": make().begun(["a"], text)()}, "a", 4) == 8


def test_a_fault_in_the_text_names_the_way_out(make):
    with pytest.raises(CompilationError, match=r"FGRAD_CPU_COMPILER=numpy"):
        make().load(["a"], lambda _names: ["define void @a() { nonsense }"])


def test_a_fault_in_any_of_several_modules_is_told(make):
    good = TEXT.format(name="a", factor=2)
    with pytest.raises(CompilationError, match=r"nonsense"):
        make().load(["a"], lambda _names: [good, "define void @b() { nonsense }"])


def test_code_of_another_target_is_another_entry(make, tmp_path):
    make().load(["a"], Source())
    target = host()
    Engine(target._replace(features=target.features + ",-avx2"), ObjectCache(tmp_path)).load(
        ["a"], Source()
    )
    assert len(codes(tmp_path)) == 2


@pytest.mark.parametrize(
    ("features", "width"),
    [
        ("+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl", 64),
        ("+avx2,+fma,+avx512f", 32),
        ("+avx2,+fma,-avx512f", 32),
        ("+neon", 16),
        ("", 16),
    ],
)
def test_the_vector_width_follows_the_features(features, width):
    assert Target("x86_64-unknown-linux-gnu", "x", features).vector_bytes == width


def test_architectures_have_one_name():
    assert Target("arm64-apple-darwin", "x", "").architecture == "aarch64"
    assert Target("x86_64-pc-windows", "x", "").architecture == "x86_64"
