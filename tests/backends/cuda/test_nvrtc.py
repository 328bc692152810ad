"""CUDA C to machine code without a GPU: architectures, the cache on disk, errors by kernel."""

import importlib.util
import warnings

import pytest

from fgrad.backends.cuda import nvrtc
from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.backends.cuda.prelude import with_prelude
from fgrad.backends.object_cache import ObjectCache
from fgrad.errors import CompilationError
from tests.backends.cuda import operations as ops

needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy, which loads NVRTC, is not installed"
)
SOURCE = with_prelude('extern "C" __global__ void one(float* x) { x[0] = 1; }\n')


class Fake:
    """What `nvrtc` calls, without a compiler."""

    class NVRTCError(Exception):
        pass

    def __init__(self):
        self.version, self.log, self.compiled = (12, 9), "", []

    def getVersion(self):
        return self.version

    def getSupportedArchs(self):
        return (80, 90, 100)

    def createProgram(self, source, name, headers, names):
        return source

    def compileProgram(self, program, flags):
        self.compiled.append(flags)
        if self.log:
            raise self.NVRTCError("NVRTC_ERROR_COMPILATION")

    def getProgramLog(self, program):
        return self.log

    def getCUBIN(self, program):
        return b"cubin"

    def getPTX(self, program):
        return "ptx"

    def destroyProgram(self, program):
        pass


@pytest.fixture
def fake(monkeypatch):
    found = Fake()
    monkeypatch.setattr(nvrtc, "_nvrtc", lambda: found)
    return found


def test_nothing_is_approximated(fake, tmp_path):
    assert compile_source(SOURCE, "90", cache=ObjectCache(tmp_path)) == b"cubin"
    (flags,) = fake.compiled
    assert {"--gpu-architecture=sm_90", "--fmad=false", "--ftz=false"} < set(flags)
    assert not any("fast" in flag for flag in flags)


def test_a_module_is_compiled_once_for_all_processes(fake, tmp_path):
    for _ in range(2):
        compile_source(SOURCE, "90", cache=ObjectCache(tmp_path))
    assert len(fake.compiled) == 1
    compile_source(SOURCE, "80", cache=ObjectCache(tmp_path))
    compile_source(SOURCE, "90", cache=ObjectCache(tmp_path), options=["-lineinfo"])
    compile_source(SOURCE + "\n", "90", cache=ObjectCache(tmp_path))
    fake.version = (13, 0)
    compile_source(SOURCE, "90", cache=ObjectCache(tmp_path))
    assert len(fake.compiled) == 5


def test_a_damaged_entry_is_made_anew(fake, tmp_path):
    compile_source(SOURCE, "90", cache=ObjectCache(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert compile_source(SOURCE, "90", cache=ObjectCache(tmp_path)) == b"cubin"
    assert len(fake.compiled) == 2
    compile_source(SOURCE, "90", cache=ObjectCache(tmp_path))
    assert len(fake.compiled) == 2


def test_without_a_folder_it_compiles_and_says_so_once(fake, tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = ObjectCache(tmp_path / "file" / "cuda")
    with pytest.warns(RuntimeWarning, match="keeps no machine code on disk"):
        compile_source(SOURCE, "90", cache=cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_source(SOURCE, "90", cache=cache) == b"cubin"
    assert len(fake.compiled) == 2


def test_a_later_architecture_gets_ptx_of_the_last_one_known(fake, tmp_path):
    assert compile_source(SOURCE, "120", cache=ObjectCache(tmp_path)) == b"ptx\0"
    assert fake.compiled[0][0] == "--gpu-architecture=compute_100"


def test_an_earlier_architecture_is_an_error(fake, tmp_path):
    with pytest.raises(CompilationError, match=r"capability 7\.5: NVRTC 12\.9 compiles for 8\.0"):
        compile_source(SOURCE, "75", cache=ObjectCache(tmp_path))


TWO = """
extern "C" __global__ void first(float* x) { x[0] = 1; }
extern "C" __global__ void __launch_bounds__(256)
    second(float* x) {
  x[0] = 2;
}
"""


@pytest.mark.parametrize(
    ("log", "kernel"),
    [
        ("module(2): error: no such name", "first"),
        ("module(5): error: no such name", "second"),
        (
            "prelude(9): error: bad\n detected during instantiation of f at line 5 of module",
            "second",
        ),
        ('prelude(9): error: bad\n detected during instantiation at line 2 of "module"', "first"),
        ("ptxas error   : Entry function 'second' uses too much shared data", "second"),
    ],
)
def test_an_error_names_the_kernel_and_what_it_computes(fake, tmp_path, log, kernel):
    fake.log = log
    about = {"first": "add of model.py:3", "second": "mul of model.py:4"}
    with pytest.raises(CompilationError) as caught:
        compile_source(with_prelude(TWO), "90", cache=ObjectCache(tmp_path), about=about)
    assert f"cannot compile kernel {kernel} ({about[kernel]}):\n{log}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_error_outside_of_kernels_shows_the_log(fake, tmp_path):
    fake.log = "module(1): catastrophic error: no such file"
    with pytest.raises(CompilationError, match=r"a module:\nmodule.1.: catastrophic"):
        compile_source(with_prelude(TWO), "90", cache=ObjectCache(tmp_path))


def test_without_cupy_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(nvrtc, "import_module", missing)
    with pytest.raises(CompilationError, match="install cupy-cuda12x or cupy-cuda13x"):
        compile_source(SOURCE, "90")


@needs_nvrtc
@pytest.mark.parametrize("arch", ["80", "90", "100"])
def test_the_prelude_compiles_for_every_architecture(arch, tmp_path):
    source = with_prelude(ops.stored_source() + ops.reduction_source())
    code = compile_source(source, arch, cache=ObjectCache(tmp_path))
    assert code.startswith(b"\x7fELF")
    assert b"reduce_add_float32" in code


@needs_nvrtc
@pytest.mark.parametrize("arch", ["80", "90", "100"])
@pytest.mark.slow
def test_every_operation_compiles_for_every_architecture(arch, tmp_path):
    compile_source(with_prelude(ops.source()), arch, cache=ObjectCache(tmp_path))


@needs_nvrtc
def test_the_compiler_itself_names_the_kernel(tmp_path):
    bad = TWO.replace("x[0] = 2", "x[0] = fg_shl(x[0], x[1])")
    with pytest.raises(CompilationError, match=r"kernel second:\nprelude\(\d+\): error: "):
        compile_source(with_prelude(bad), "90", cache=ObjectCache(tmp_path))


@needs_nvrtc
def test_code_rounds_each_operation_and_keeps_denormal_numbers(tmp_path):
    """As PTX, which an architecture that NVRTC does not know yet gets."""
    body = "out[0] = fg_add(fg_mul(x[0], x[1]), x[2]); out[1] = fg_div(x[0], fg_sqrt(x[1]));"
    source = with_prelude(f'extern "C" __global__ void f(float* x, float* out) {{ {body} }}')
    text = compile_source(source, "999", cache=ObjectCache(tmp_path)).decode()
    for instruction in ("mul.rn.f32", "add.rn.f32", "div.rn.f32", "sqrt.rn.f32"):
        assert instruction in text or instruction.replace(".rn", "") in text
    assert "fma" not in text
    assert ".ftz" not in text
    assert ".approx" not in text
