"""Structures of the CUDA driver as ``cuda.h`` lays them out, and what its absence says."""

import ctypes

import pytest

from fgrad.backends.cuda import driver
from fgrad.errors import DriverError


def test_structures_have_the_sizes_and_offsets_of_the_header():
    assert ctypes.sizeof(driver.KernelParams) == 72
    assert driver.KernelParams.params.offset == 40
    assert ctypes.sizeof(driver.ConditionalParams) == 256
    assert driver.ConditionalParams.handle.offset == 16
    assert driver.ConditionalParams.bodies.offset == 32
    assert ctypes.sizeof(driver.CopyParams) == 200
    assert driver.CopyParams.dtype.offset == 120
    assert driver.CopyParams.ddevice.offset == 136


@pytest.fixture
def refusing(monkeypatch):
    """A driver that refuses all calls with a status."""

    def function(name):
        def call(*args):
            if name == "cuGetErrorString":
                ctypes.cast(args[1], ctypes.POINTER(ctypes.c_char_p))[0] = b"invalid argument"
                return 0
            return 1

        return call

    monkeypatch.setattr(driver, "function", function)


def test_a_refused_call_is_named(refusing):
    with pytest.raises(DriverError, match=r"cuGraphLaunch .*: invalid argument \(error 1\)"):
        driver.call("cuGraphLaunch", 1, 0)


def test_a_machine_without_a_driver_says_so(monkeypatch):
    def absent(name):
        raise OSError(name)

    driver._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(DriverError, match="install the driver"):
        driver._library()
    driver._library.cache_clear()
