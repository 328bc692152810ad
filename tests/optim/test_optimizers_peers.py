"""The optimizers against torch.optim, in float64."""

import numpy as np
import pytest

import fgrad.optim as optim

pytestmark = pytest.mark.peers

CASES = {
    "sgd": (optim.sgd(0.1), "SGD", {"lr": 0.1}),
    "momentum": (optim.momentum(0.1, 0.8), "SGD", {"lr": 0.1, "momentum": 0.8}),
    "nesterov": (
        optim.sgd(0.1, 0.8, nesterov=True),
        "SGD",
        {"lr": 0.1, "momentum": 0.8, "nesterov": True},
    ),
    "coupled decay": (
        optim.chain(optim.add_decayed_weights(0.3), optim.sgd(0.1, 0.8)),
        "SGD",
        {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.3},
    ),
    "adam": (optim.adam(0.02), "Adam", {"lr": 0.02}),
    "adam with options": (
        optim.adam(0.02, 0.7, 0.95, 1e-3),
        "Adam",
        {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3},
    ),
    "adamw": (
        optim.adamw(0.02, weight_decay=0.3),
        "AdamW",
        {"lr": 0.02, "weight_decay": 0.3},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_ten_steps_match_torch(name):
    torch = pytest.importorskip("torch")
    optimizer, torch_name, options = CASES[name]
    rng = np.random.default_rng(0)
    params = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    torch_optimizer = getattr(torch.optim, torch_name)(theirs, **options)
    state = optimizer.init(params)
    for _ in range(10):
        grads = [rng.normal(size=p.shape) for p in params]
        updates, state = optimizer.update(grads, state, params)
        params = optim.apply_updates(params, updates)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad)
        torch_optimizer.step()
    for ours, parameter in zip(params, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(ours), parameter.detach().numpy(), rtol=1e-10)


def test_clipping_by_global_norm_matches_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for parameter, grad in zip(theirs, grads, strict=True):
        parameter.grad = torch.tensor(grad)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    np.testing.assert_allclose(float(optim.global_norm(grads)), float(norm), rtol=1e-14)
    step = optim.clip_by_global_norm(0.5)
    clipped, _ = step.update(grads, step.init(grads))
    for ours, parameter in zip(clipped, theirs, strict=True):
        # torch divides by norm + 1e-6.
        np.testing.assert_allclose(np.asarray(ours), parameter.grad.numpy(), rtol=1e-5)
