"""The layers against torch.nn, forward and gradients, in float64."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

pytestmark = pytest.mark.peers


def key():
    return fg.random.key(0)


F64 = {"dtype": np.float64}

# name: ours, torch's class and arguments, input shape
CASES = {
    "Linear": (nn.Linear(key(), 4, 3, **F64), ("Linear", (4, 3), {}), (2, 5, 4)),
    "Linear without bias": (
        nn.Linear(key(), 4, 3, bias=False, **F64),
        ("Linear", (4, 3), {"bias": False}),
        (2, 4),
    ),
    "Conv2d": (
        nn.Conv2d(key(), 4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, **F64),
        ("Conv2d", (4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2), {}),
        (2, 4, 7, 8),
    ),
    "Conv2d same": (
        nn.Conv2d(key(), 2, 3, 3, padding="same", **F64),
        ("Conv2d", (2, 3, 3), {"padding": "same"}),
        (1, 2, 6, 6),
    ),
    "LayerNorm": (nn.LayerNorm((3, 4), **F64), ("LayerNorm", ((3, 4),), {}), (2, 3, 4)),
    "LayerNorm without bias": (
        nn.LayerNorm(4, 1e-3, bias=False, **F64),
        ("LayerNorm", (4, 1e-3), {"bias": False}),
        (2, 4),
    ),
    "RMSNorm": (nn.RMSNorm(4, **F64), ("RMSNorm", (4,), {}), (3, 4)),
    "GroupNorm": (nn.GroupNorm(2, 6, **F64), ("GroupNorm", (2, 6), {}), (2, 6, 3, 3)),
    "MultiHeadAttention": (
        nn.MultiHeadAttention(key(), 6, 3, **F64),
        ("MultiheadAttention", (6, 3), {"batch_first": True}),
        (2, 5, 6),
    ),
}


def check_against_torch(ours, theirs, x, call_torch):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    state = {k: rng.normal(size=v.shape) for k, v in theirs.state_dict().items()}
    assert state.keys() == ours.state_dict().keys()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    ours = ours.load_state_dict(state)
    torch_x = torch.tensor(x, requires_grad=True)
    torch_y = call_torch(theirs, torch_x)
    y, pullback = fg.vjp(lambda m, x: m(x), ours, x)
    np.testing.assert_allclose(np.asarray(y), torch_y.detach().numpy(), rtol=1e-10, atol=1e-12)
    ct = rng.normal(size=y.shape)
    torch_y.backward(torch.tensor(ct))
    gradient, x_gradient = pullback(fg.numpy.asarray(ct))
    np.testing.assert_allclose(np.asarray(x_gradient), torch_x.grad.numpy(), rtol=1e-9, atol=1e-11)
    torch_gradients = dict(theirs.named_parameters())
    for name, g in gradient.state_dict().items():
        expected = torch_gradients[name].grad.numpy()
        np.testing.assert_allclose(np.asarray(g), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_layers_match_torch(name):
    torch = pytest.importorskip("torch")
    ours, (torch_name, args, options), shape = CASES[name]
    theirs = getattr(torch.nn, torch_name)(*args, dtype=torch.float64, **options)
    x = np.random.default_rng(1).normal(size=shape)
    if torch_name == "MultiheadAttention":
        check_against_torch(ours, theirs, x, lambda m, x: m(x, x, x, need_weights=False)[0])
    else:
        check_against_torch(ours, theirs, x, lambda m, x: m(x))


def test_masked_cross_attention_matches_torch():
    torch = pytest.importorskip("torch")
    ours = nn.MultiHeadAttention(key(), 6, 3, **F64)
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in ours.state_dict().items()})
    rng = np.random.default_rng(2)
    q, k, v = (rng.normal(size=(2, n, 6)) for n in (4, 5, 5))
    visible = rng.random((4, 5)) < 0.6
    visible[:, 0] = True
    expected, _ = theirs(
        *(torch.tensor(x) for x in (q, k, v)),
        attn_mask=torch.tensor(~visible),
        need_weights=False,
    )
    actual = ours(q, k, v, mask=visible)
    np.testing.assert_allclose(
        np.asarray(actual), expected.detach().numpy(), rtol=1e-10, atol=1e-12
    )


def test_embedding_matches_torch():
    torch = pytest.importorskip("torch")
    ours = nn.Embedding(key(), 7, 3, padding_idx=2, **F64)
    theirs = torch.nn.Embedding(7, 3, padding_idx=2, dtype=torch.float64)
    theirs.load_state_dict({"weight": torch.tensor(np.asarray(ours.weight))})
    indices = np.array([[1, 2, 2], [6, 1, 0]])
    expected = theirs(torch.tensor(indices))
    y, pullback = fg.vjp(lambda m: m(indices), ours)
    np.testing.assert_array_equal(np.asarray(y), expected.detach().numpy())
    ct = np.random.default_rng(0).normal(size=y.shape)
    expected.backward(torch.tensor(ct))
    (gradient,) = pullback(fg.numpy.asarray(ct))
    np.testing.assert_allclose(
        np.asarray(gradient.weight), theirs.weight.grad.numpy(), rtol=1e-12, atol=1e-14
    )
