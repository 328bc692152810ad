import os
import subprocess
import sys
import threading

import pytest

from fgrad.core import config as config_module
from fgrad.core.config import config
from fgrad.core.errors import ConfigError

DEFAULTS = {
    "enable_x64": False,
    "debug_nans": False,
    "debug_infs": False,
    "disable_jit": False,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "default_matmul_precision": None,
    "check_tracer_leaks": False,
    "out_of_bounds": "raise",
    "key_reuse": "raise",
    "deterministic": True,
    "excess_precision": False,
    "autotune": False,
    "check": False,
    "cpu_compiler": "llvm",
    "cuda_compiler": "eager",
    "default_device": config.default_device,  # tests have it on the CPU where there is a GPU
}
OTHER = {
    "numpy_dtype_promotion": "strict",
    "numpy_rank_promotion": "raise",
    "default_matmul_precision": "highest",
    "out_of_bounds": "jax",
    "key_reuse": "jax",
    "cpu_compiler": "numpy",
    "cuda_compiler": "rawkernel",
    "default_device": "cuda:1",
}


def other_value(name):
    return OTHER.get(name, not DEFAULTS[name])


@pytest.fixture
def restored():
    yield
    for name, value in DEFAULTS.items():
        config.update(name, value)


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("name", DEFAULTS)
def test_flag_has_its_default_a_context_manager_and_both_spellings(name, restored):
    assert getattr(config, name) == DEFAULTS[name]
    with getattr(config_module, name)(other_value(name)):
        assert getattr(config, name) == other_value(name)
        assert getattr(config, f"jax_{name}") == other_value(name)
        assert in_thread(lambda: getattr(config, name)) == DEFAULTS[name]
    assert getattr(config, name) == DEFAULTS[name]
    config.update(f"jax_{name}", other_value(name))
    assert getattr(config, name) == other_value(name)
    assert in_thread(lambda: getattr(config, name)) == other_value(name)


def test_flags_of_the_module_are_those_tested():
    managers = set(config_module.__all__) - {"Config", "config"}
    assert managers == DEFAULTS.keys()


def test_context_managers_nest_restore_after_errors_and_are_reentrant():
    block = config_module.enable_x64(True)
    with block, config_module.enable_x64(False):
        with block:
            assert config.enable_x64
        assert not config.enable_x64
    with pytest.raises(ZeroDivisionError), block:
        raise ZeroDivisionError
    assert not config.enable_x64


def test_a_context_manager_decorates_a_function():
    @config_module.enable_x64(True)
    def inside(depth):
        return inside(depth - 1) if depth else config.enable_x64

    assert inside(2)
    assert in_thread(lambda: inside(1))
    assert not config.enable_x64


def test_an_override_hides_a_global_update_until_it_ends(restored):
    with config_module.enable_x64(False):
        config.update("enable_x64", True)
        assert not config.enable_x64
    assert config.enable_x64


@pytest.mark.parametrize("name", [n for n in DEFAULTS if n not in config_module._ASIDE])
def test_trace_key_follows_each_flag_that_changes_a_program(name, restored):
    before = config.trace_key()
    assert config.trace_key() is before
    with getattr(config_module, name)(other_value(name)):
        within = config.trace_key()
        assert within != before
        hash(within)
    assert config.trace_key() == before
    config.update(name, other_value(name))
    assert config.trace_key() == within == in_thread(config.trace_key)


def test_trace_key_ignores_the_leak_check():
    before = config.trace_key()
    with config_module.check_tracer_leaks(True):
        assert config.trace_key() == before


def test_trace_key_sees_a_global_update_within_an_override(restored):
    with config_module.enable_x64(True):
        before = config.trace_key()
        config.update("debug_nans", True)
        assert config.trace_key() != before


def test_an_unknown_flag_raises_with_similar_names():
    with pytest.raises(ConfigError, match=r"no configuration flag 'enable_x32'.*enable_x64"):
        config.update("enable_x32", True)
    with pytest.raises(AttributeError, match="did you mean debug_nans"):
        config.debug_nan  # noqa: B018
    with pytest.raises(ConfigError, match="flags are enable_x64"):
        config.update("zzz", 1)


@pytest.mark.parametrize("value", [1, None, "true"])
def test_a_wrong_value_raises_with_the_accepted_ones(value):
    with pytest.raises(ConfigError, match="'enable_x64' accepts False, True; got"):
        config.update("enable_x64", value)
    with pytest.raises(ConfigError, match="accepts 'allow', 'warn', 'raise'"):
        config_module.numpy_rank_promotion("never")


def test_assigning_a_flag_raises_and_says_how_to_set_it():
    with pytest.raises(ConfigError, match=r"config.update\('enable_x64', True\)"):
        config.enable_x64 = True
    with pytest.raises(ConfigError, match="no configuration flag 'enable_x46'"):
        config.enable_x46 = True


def read_in_new_process(**environment):
    code = "from fgrad.core.config import config; print(config)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_sets_flags_at_import():
    found = read_in_new_process(
        FGRAD_ENABLE_X64="1",
        FGRAD_DETERMINISTIC="off",
        FGRAD_NUMPY_RANK_PROMOTION="raise",
        FGRAD_DEFAULT_MATMUL_PRECISION="None",
    )
    for text in ("enable_x64=True", "deterministic=False", "rank_promotion='raise'"):
        assert text in found.stdout
    assert "default_matmul_precision=None" in found.stdout


def test_a_wrong_environment_variable_fails_the_import_and_is_named():
    found = read_in_new_process(FGRAD_ENABLE_X64="maybe")
    assert found.returncode != 0
    assert "FGRAD_ENABLE_X64='maybe': accepted are false, true" in found.stderr


def test_internal_lookups_of_protocols_do_not_name_flags():
    assert not hasattr(config, "__array__")
