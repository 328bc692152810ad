"""checkpoint: the same gradients, what is kept, what runs again."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import checkpoint_name
from fgrad import checkpoint_policies as policies

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16).reshape(4, 4)
POLICIES = {
    "none": None,
    "everything": policies.everything_saveable,
    "nothing": policies.nothing_saveable,
    "dots": policies.dots_saveable,
    "dots without batch": policies.dots_with_no_batch_dims_saveable,
    "only": policies.save_only_these_names("hidden"),
    "any but": policies.save_any_names_but_these("hidden"),
    "anything except": policies.save_anything_except_these_names("hidden"),
    "both": policies.save_from_both_policies(
        policies.dots_saveable, policies.save_only_these_names("hidden")
    ),
    "lambda": lambda prim, *_avals, **_params: prim.name == "tanh",
}


def block(x, w):
    h = checkpoint_name(fnp.tanh(x @ w), "hidden")
    return fnp.sum(fnp.sin(h) * fnp.exp(h @ w))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_gives_the_same_gradients(name):
    f = fg.checkpoint(block, policy=POLICIES[name])
    plain = fg.grad(block, (0, 1))(X, W)
    for wrapped in (f, fg.jit(f), fg.checkpoint(f)):
        for a, b in zip(fg.grad(wrapped, (0, 1))(X, W), plain, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    np.testing.assert_allclose(fg.jvp(f, (X, W), (X, W))[1], fg.jvp(block, (X, W), (X, W))[1],
                               rtol=1e-14)  # fmt: skip
    twice = fg.grad(lambda x: fg.grad(f)(x, W).sum())(X)
    np.testing.assert_allclose(twice, fg.grad(lambda x: fg.grad(block)(x, W).sum())(X), rtol=1e-12)


def test_the_function_is_computed_again_and_only_where_it_was_not_kept():
    ran = []

    def count(x):
        y = fnp.tanh(x)
        return fg.tap(y, lambda ct: ran.append("back") or ct)

    equations = fg.make_jaxpr(fg.grad(lambda x: fg.checkpoint(count)(x).sum()))(X).jaxpr.eqns
    assert [e.primitive.name for e in equations].count("tanh") <= 2
    assert ran

    def program(policy):
        f = fg.checkpoint(lambda x: fnp.sin(fnp.sin(fnp.sin(x))), policy=policy)
        lowered = fg.jit(fg.value_and_grad(lambda x: f(x).sum())).lower(X)
        return str(lowered.optimized).count(" sin ")

    assert program(policies.nothing_saveable) == 3 + 2
    assert program(policies.everything_saveable) == 3


def test_used_as_a_decorator_with_static_arguments():
    @fg.checkpoint(static_argnums=(1,))
    def f(x, n):
        for _ in range(n):
            x = fnp.sin(x)
        return x

    np.testing.assert_allclose(
        float(fg.grad(f)(0.5, 2)), np.cos(np.sin(0.5)) * np.cos(0.5), rtol=1e-6
    )


def test_closures_are_differentiated():
    g = fg.grad(lambda w: fg.checkpoint(lambda x: fnp.sin(x * w))(2.0))(0.25)
    np.testing.assert_allclose(float(g), 2 * np.cos(0.5), rtol=1e-6)


def test_under_vmap_of_mapped_and_shared_arguments():
    f = fg.checkpoint(lambda x, w: fnp.sum(fnp.tanh(x @ w)))
    g = fg.grad(lambda w: fg.vmap(f, in_axes=(0, None))(X, w).sum())(W)
    plain = fg.grad(lambda w: fnp.sum(fnp.tanh(X @ w)))(W)
    np.testing.assert_allclose(g, plain, rtol=1e-13)
