"""The machines that library steps are tested on: the emulation, and the card where there is one."""

import shutil
from collections import defaultdict

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


_MOST_ON_CARD = 6  # cases of a test: a card's time is short, and compiling takes most of it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a card some cases of each test stand for all, which the emulation runs."""
    found = defaultdict(list)
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is not None and spec.params.get("execute") is card.execute:
            found[item.nodeid.partition("[")[0]].append(item)
    left_out = set()
    for cases in found.values():
        step = -(-len(cases) // _MOST_ON_CARD)
        left_out.update(case for i, case in enumerate(cases) if i % step)
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
