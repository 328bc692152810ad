"""The machines that library steps are tested on: the emulation, and the card where there is one."""

import shutil

import pytest

from tests.backends.cuda import card, running


@pytest.fixture(
    params=[
        pytest.param(
            running.execute,
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
            id="emulated",
        ),
        pytest.param(card.execute, marks=pytest.mark.gpu, id="card"),
    ]
)
def execute(request):
    """``(plan, inputs, outputs)`` runs the plan of a step, whose kernels are our own."""
    return request.param
