"""The garbage collector is paused for as long as anyone asks, and then as it was before."""

import gc
import threading

import pytest

from fgrad.compile.collector import paused


@pytest.mark.parametrize("enabled", [True, False])
def test_the_state_comes_back(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with paused():
            assert not gc.isenabled()
            with paused():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(ValueError, match="stop"), paused():
            raise ValueError("stop")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_threads_pause_it_together():
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with paused():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    with paused():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
