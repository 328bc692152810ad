"""Seed table: checkpointing stores each tensor once, under every policy."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import checkpoint_name
from fgrad import checkpoint_policies as policies

N = 1000
X, W = np.linspace(-1, 1, N), np.linspace(1, 2, N)
ROW = 8 * N


def f(x, w):
    h = checkpoint_name(fnp.sin(x * w), "h")
    # h, x and w are each asked for by several pullbacks.
    return h * x + fnp.exp(h) * w + h * fnp.tanh(h) * x


@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        (None, 2),  # x and w
        (policies.nothing_saveable, 2),
        (policies.dots_saveable, 2),
        (policies.dots_with_no_batch_dims_saveable, 2),
        (policies.save_only_these_names("h"), 3),
        (policies.save_any_names_but_these("g"), 3),
        (policies.save_any_names_but_these("h"), 2),
        (policies.save_from_both_policies(policies.dots_saveable,
                                          policies.save_only_these_names("h")), 3),
    ],
)  # fmt: skip
def test_bytes_kept(policy, rows):
    table = fg.saved_residuals(fg.checkpoint(f, policy=policy), X, W)
    assert table.nbytes == rows * ROW, repr(table)


def test_everything_keeps_what_the_plain_function_keeps():
    plain = fg.saved_residuals(f, X, W)
    table = fg.saved_residuals(fg.checkpoint(f, policy=policies.everything_saveable), X, W)
    assert table.nbytes == plain.nbytes
    assert "B  in all" in repr(table)


def test_a_tensor_shared_by_two_blocks_is_stored_once():
    block = fg.checkpoint(lambda x, w: fnp.sin(x * w))
    table = fg.saved_residuals(lambda x, w: block(x, w) + block(w, x), X, W)
    assert table.nbytes == 2 * ROW, repr(table)


def test_a_chain_keeps_the_boundaries_alone():
    block = fg.checkpoint(lambda x: fnp.sin(fnp.exp(fnp.tanh(x))))

    def chain(x):
        for _ in range(5):
            x = block(x)
        return x

    assert fg.saved_residuals(chain, X).nbytes == 5 * ROW
