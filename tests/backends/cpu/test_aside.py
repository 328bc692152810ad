"""Work on another thread: its result, its error, and processes forked meanwhile."""

import os
import subprocess
import sys
import threading

import pytest

from fgrad.backends.cpu.aside import Aside
from fgrad.backends.cpu.emission import object_files
from fgrad.backends.cpu.target import host


def test_the_result_comes_from_another_thread():
    assert Aside(threading.get_ident).result() != threading.get_ident()


def test_an_error_is_raised_where_the_result_is_asked_for():
    with pytest.raises(ZeroDivisionError):
        Aside(lambda: 1 / 0).result()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinities")
def test_the_thread_may_run_anywhere_in_the_end():
    assert Aside(lambda: os.sched_getaffinity(0)).result() == os.sched_getaffinity(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_meanwhile_does_the_work_itself():
    code = """
import os, threading, warnings
from fgrad.backends.cpu.aside import Aside
begun, go = threading.Event(), threading.Event()
def work():
    begun.set()
    go.wait()
    return 7
waiting = Aside(work)
begun.wait()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks of processes with threads
    child = os.fork()
go.set()
good = waiting.result() == 7
if child == 0:
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
raise SystemExit(0 if good and status == 0 else 1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_modules_compiled_side_by_side_are_those_compiled_alone():
    texts = [
        f"define i64 @f{k}(i64 %x) {{\n  %y = mul i64 %x, {k + 3}\n  ret i64 %y\n}}\n"
        for k in range(3)
    ]
    assert object_files(texts, host()) == [object_files([t], host())[0] for t in texts]
