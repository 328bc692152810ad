"""Keys that are used twice are reported, through transforms and programs; no others are."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, random
from fgrad.errors import KeyReuseError

X = np.array([0.5, -1.0, 2.0], np.float32)


def noisy(x, key):
    return x * random.normal(key, x.shape)


@fg.custom_vjp
def reverse_rule(x, key):
    return noisy(x, key)


# The rule draws the same numbers again, on purpose, from the key that it kept.
reverse_rule.defvjp(
    lambda x, key: (reverse_rule(x, key), key),
    lambda key, ct: (ct * random.normal(key, ct.shape), None),
)


@fg.custom_jvp
def forward_rule(x, key):
    return noisy(x, key)


forward_rule.defjvp(
    lambda ps, ts: (forward_rule(*ps), ts[0] * random.normal(random.clone(ps[1]), X.shape))
)


def total(f):
    return lambda x, key: fnp.sum(f(x, key))


def either(x, key):
    return lax.cond(fnp.sum(x) > 0, noisy, lambda x, key: random.uniform(key, x.shape), x, key)


# Each of them draws once from the key that it gets.
USES = {
    "eager": noisy,
    "jit": fg.jit(noisy),
    "nested jit": fg.jit(lambda x, key: fg.jit(noisy)(x, key)),
    "closure in jit": lambda x, key: fg.jit(lambda x: noisy(x, key))(x),
    "closure in nested jit": lambda x, key: fg.jit(lambda x: fg.jit(lambda y: noisy(y, key))(x))(x),
    "grad": fg.grad(total(noisy)),
    "vjp of both": lambda x, key: fg.vjp(noisy, x, key)[0],
    "jvp": lambda x, key: fg.jvp(lambda x: noisy(x, key), (x,), (x,)),
    "linearize": lambda x, key: fg.linearize(lambda x: noisy(x, key), x)[0],
    "hessian": lambda x, key: fg.hessian(lambda x: fnp.sum(fnp.sin(noisy(x, key))))(x),
    "grad of jit": fg.grad(total(fg.jit(noisy))),
    "jit of grad": fg.jit(fg.grad(total(noisy))),
    "vmap": lambda x, key: fg.vmap(noisy, in_axes=(0, None))(np.stack([x, x]), key),
    "vmap closure": lambda x, key: fg.vmap(lambda x: noisy(x, key))(np.stack([x, x])),
    "jit of vmap": lambda x, key: fg.jit(fg.vmap(noisy, in_axes=(0, None)))(np.stack([x, x]), key),
    "vmap of jit": lambda x, key: fg.vmap(fg.jit(noisy), in_axes=(0, None))(np.stack([x, x]), key),
    "checkpoint": fg.checkpoint(noisy),
    "grad of checkpoint": fg.grad(total(fg.checkpoint(noisy))),
    "jit of checkpoint": fg.jit(fg.checkpoint(noisy)),
    "cond": either,
    "cond in jit": fg.jit(either),
    "scan carry": lambda x, key: lax.scan(
        lambda k, x: (random.split(k)[0], x * random.normal(random.fold_in(k, 1))), key, x
    )[1],
    "scan of one step": lambda x, key: lax.scan(lambda c, x: (c, noisy(x, key)), 0, x[:1]),
    "fori_loop": lambda x, key: lax.fori_loop(0, 3, lambda i, s: (
        s[0] + random.normal(s[1]), random.fold_in(s[1], i)), (x, key)),
    "custom_vjp": reverse_rule,
    "grad of custom_vjp": fg.grad(total(reverse_rule)),
    "jit of grad of custom_vjp": fg.jit(fg.grad(total(reverse_rule))),
    "custom_vjp in jit": fg.jit(reverse_rule),
    "grad of custom_vjp in vmap": lambda x, key: fg.grad(lambda x: fnp.sum(
        fg.vmap(reverse_rule, in_axes=(0, None))(x, key)))(np.stack([x, x])),
    "custom_jvp": forward_rule,
    "grad of custom_jvp": fg.grad(total(forward_rule)),
    "jvp of custom_jvp": lambda x, key: fg.jvp(lambda x: forward_rule(x, key), (x,), (x,)),
    "jit of custom_jvp": fg.jit(forward_rule),
    "split": lambda x, key: random.split(key, 3),
    "jit of split": fg.jit(lambda x, key: random.split(key, 3)),
    "jit with unused numbers": fg.jit(lambda x, key: (random.split(key), x)[1]),
    "key in a tree": lambda x, key: fg.jit(lambda t: noisy(t["x"], t["k"][0]))(
        {"x": x, "k": (key,)}),
    "keyword": lambda x, key: fg.jit(noisy)(x, key=key),
    "mapped tree": lambda x, key: noisy(x, fg.tree.map(lambda leaf: leaf, key)),
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
def test_a_use_counts_once_however_it_is_made(name):
    use = USES[name]
    for _ in range(2):  # the second call finds its programs in the cache
        key = random.key(3)
        use(X, key)
        with pytest.raises(KeyReuseError, match=rf"used before, at {__file__}") as caught:
            random.bits(key)
        assert f"\n  at {__file__}" in str(caught.value)
        with pytest.raises(KeyReuseError, match=rf"used before, at {__file__}") as caught:
            use(X, key)
        assert f"\n  at {__file__}" in str(caught.value)
        spent = random.key(3)
        random.split(spent)
        with pytest.raises(KeyReuseError):
            use(X, spent)
        with fg.key_reuse("jax"):
            use(X, key)


def test_a_message_names_both_lines_and_the_program():
    key, program = random.key(0), fg.jit(noisy)
    program(X, key)
    with pytest.raises(KeyReuseError) as caught:
        program(X, key)
    here = test_a_message_names_both_lines_and_the_program.__code__.co_firstlineno
    places = re.findall(r"test_key_reuse\.py:(\d+) \((\w+)\)", str(caught.value))
    this = "test_a_message_names_both_lines_and_the_program"
    drawn = str(noisy.__code__.co_firstlineno + 1)
    assert places == [(str(here + 2), this), (drawn, "noisy"), (str(here + 4), this)]
    assert ", and noisy uses it at " in str(caught.value)


def test_two_uses_inside_a_program_are_reported_when_it_is_traced():
    def twice(key):
        return random.normal(key) + random.uniform(key)

    for wrap in (fg.jit, fg.checkpoint, fg.make_jaxpr):
        with pytest.raises(KeyReuseError, match="used before"):
            wrap(twice)(random.key(0))
    with pytest.raises(KeyReuseError, match="used before"):
        fg.vmap(twice)(random.split(random.key(0), 3))
    with pytest.raises(KeyReuseError, match="used before"):
        fg.jit(fg.vmap(twice))(random.split(random.key(0), 3))


def test_one_key_as_two_arguments_is_reported():
    key = random.key(0)
    with pytest.raises(KeyReuseError, match=r"and <lambda> uses it"):
        fg.jit(lambda a, b: random.normal(a) + random.normal(b))(key, key)


def test_a_program_that_closes_over_a_key_may_run_once():
    key = random.key(0)
    f = fg.jit(lambda x: noisy(x, key))
    f(X)
    with pytest.raises(KeyReuseError, match="used before"):
        f(X)
    with fg.key_reuse("jax"):
        f(X)


# ---------------------------------------------------------------------------- key by key

INDICES = {
    "number": 1, "negative": -2, "slice": slice(1, 3), "reversed": slice(None, None, -1),
    "array": np.array([1, 2]), "mask": np.array([False, True, False]), "list": [1],
    "ellipsis": (..., 1), "new axis": (None, 1), "fgrad array": fnp.array([1]),
}  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", INDICES)
def test_each_key_of_an_array_is_known(name, wrap):
    index = INDICES[name]
    chosen = {int(i) for i in np.ravel(np.arange(3)[index])}

    def draw(keys):
        part = keys[index]
        flat = part.reshape(-1) if part.shape else part.reshape((1,))
        return fg.vmap(random.bits)(flat)

    for other in range(3):
        keys = random.split(random.key(0), 3)
        wrap(draw)(keys)
        if other in chosen:
            with pytest.raises(KeyReuseError, match="a random key of this array was used before"):
                random.bits(keys[other])
            with pytest.raises(KeyReuseError):
                fg.jit(lambda keys, i=other: random.bits(keys[i]))(keys)
            with pytest.raises(KeyReuseError):
                wrap(draw)(keys)
        else:
            random.bits(keys[other])
    keys = random.split(random.key(0), 3)
    wrap(draw)(keys)
    with pytest.raises(KeyReuseError, match="a random key of this array"):
        fg.vmap(random.bits)(keys)


def test_the_same_index_twice_is_reported_and_iteration_is_not():
    keys = random.split(random.key(0), 3)
    for key in keys:
        random.normal(key)
    with pytest.raises(KeyReuseError):
        random.normal(keys[0])
    a, b = random.split(random.key(0))
    random.normal(a)
    random.normal(b)
    with pytest.raises(KeyReuseError):
        random.normal(a)
    again = random.split(random.key(0), 4)[np.array([0, 0])]
    with pytest.raises(KeyReuseError, match="a random key of this array"):
        fg.vmap(random.bits)(again)


def test_mapped_keys_are_used_each():
    keys = random.split(random.key(0), (2, 3))
    fg.vmap(fg.vmap(random.normal))(keys[:, :2])
    fg.vmap(random.normal, in_axes=0)(keys[:, 2])
    with pytest.raises(KeyReuseError):
        random.normal(keys[1, 2])
    keys = random.split(random.key(0), (2, 3))
    fg.vmap(lambda ks: random.normal(ks[1]), in_axes=0)(keys)
    fg.jit(fg.vmap(lambda ks: random.normal(ks[0]), in_axes=1))(keys[:, ::2])
    random.normal(keys[1, 0])
    random.normal(keys[1, 2])
    for used in (keys[0, 1], keys[1, 1], keys[0, 0], keys[0, 2]):
        with pytest.raises(KeyReuseError):
            random.normal(used)


def test_loops_use_one_key_a_step():
    keys = random.split(random.key(0), (3, 2))
    lax.scan(lambda c, ks: (c, random.normal(ks[0])), 0, keys)
    lax.map(lambda ks: random.normal(ks[1]), keys[:2])
    random.normal(keys[2, 1])
    for used in (keys[0, 0], keys[2, 0], keys[1, 1]):
        with pytest.raises(KeyReuseError):
            random.normal(used)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_loop_whose_steps_draw_from_one_key_is_reported(wrap):
    def closes_over(key):
        return lax.scan(lambda c, x: (c + random.normal(key), None), 0.0, X)[0]

    def hands_on(key):
        return lax.fori_loop(0, 3, lambda i, s: (s[0], s[1] + random.normal(s[0])), (key, 0.0))[1]

    for f in (closes_over, hands_on):
        with pytest.raises(KeyReuseError, match=r"each of the 3 steps of .* uses the same random "
                           r"key, at \S+test_key_reuse.py"):  # fmt: skip
            wrap(f)(random.key(0))
        with fg.key_reuse("jax"):
            wrap(f)(random.key(0))


# ----------------------------------------------------------------- what is no second use


def folded(key):
    return lax.fori_loop(0, 3, lambda i, x: x + random.normal(random.fold_in(key, i)), 0.0)


def cloned(key):
    a, b = random.split(random.clone(key)), random.split(random.clone(key))
    return random.normal(a[0]) + random.normal(b[0]) + random.normal(key)


def made_inside(_key):
    key = random.key(0)
    return random.normal(key) + random.normal(random.key(0))


def handed_on(key):
    return lax.fori_loop(
        0, 3, lambda i, s: (random.clone(s[0]), s[1] + random.normal(s[0])), (key, 0.0)
    )[1]


def wrapped_inside(key):
    words = random.key_data(key)
    return random.normal(random.wrap_key_data(words)) + random.normal(random.wrap_key_data(words))


def in_one_branch(key):
    flag = random.bits(random.clone(key)) < 1  # where it is known, it is False
    x = lax.cond(flag, random.normal, lambda key: 0.0, key)
    return x + random.normal(key)


def other_parts(key):
    keys = random.split(key, 4)
    return fg.vmap(random.normal)(keys[:2]).sum() + random.normal(keys[2]) + random.normal(keys[-1])


def traced_index(key):
    keys = random.split(key, 3)
    return lax.fori_loop(0, 3, lambda i, x: x + random.normal(keys[i]), 0.0)


def no_turn(key):
    x = lax.scan(lambda c, x: (c + random.normal(key), None), 0.0, X[:0])[0]
    return x + random.normal(key)


def no_keys(key):
    keys = random.split(key, 0)
    return fg.vmap(random.normal)(keys).sum() + fg.vmap(random.normal)(keys).sum()


FINE = (
    folded, cloned, made_inside, handed_on, wrapped_inside, in_one_branch, other_parts,
    traced_index, no_turn, no_keys,
)  # fmt: skip
WRAPS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "checkpoint": fg.checkpoint,
    "vmap": lambda f: lambda key: fg.vmap(f)(random.split(key, 2)).sum(),
    "jit of vmap": lambda f: fg.jit(lambda key: fg.vmap(f)(random.split(key, 2)).sum()),
    "vmap of jit": lambda f: lambda key: fg.vmap(fg.jit(f))(random.split(key, 2)).sum(),
    "grad": lambda f: lambda key: fg.grad(lambda x: x * f(key))(1.0),
    "scan": lambda f: lambda key: lax.map(f, random.split(key, 2)).sum(),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("f", FINE, ids=lambda f: f.__name__)
def test_no_use_is_reported_that_is_none(f, wrap):
    run = WRAPS[wrap](f)
    with fg.key_reuse("jax"):
        want = WRAPS[wrap](f)(random.key(5))
    for _ in range(3):
        np.testing.assert_array_equal(run(random.key(5)), want)


def test_looking_at_a_function_uses_no_key():
    key = random.key(0)
    f = lambda x: noisy(x, key)  # noqa: E731
    fg.make_jaxpr(f)(X)
    fg.eval_shape(f, X)
    fg.eval_shape(noisy, X, key)
    fg.jit(f).lower(X)
    fg.jit(noisy).lower(X, key)
    fg.saved_residuals(f, X)
    fg.saved_residuals(noisy, X, key)
    repr(key), len(key.reshape(1)), random.key_data(key), random.fold_in(key, 3)
    noisy(X, key)


def test_a_program_keeps_its_uses_where_it_is_first_traced_while_looking():
    key, inner = random.key(0), fg.jit(noisy)
    fg.saved_residuals(lambda x: inner(x, key), X)
    inner(X, key)
    with pytest.raises(KeyReuseError):
        inner(X, key)


def test_keys_that_programs_return_are_new():
    step = fg.jit(lambda key: random.split(key))
    key = random.key(0)
    drawn = []
    for _ in range(3):
        key, sub = step(key)
        drawn.append(float(random.normal(sub)))
    assert len(set(drawn)) == 3
    with pytest.raises(KeyReuseError):
        random.normal(sub)


def test_copies_of_a_key_are_meant():
    key = random.key(0)
    want = random.normal(key)
    for other in (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key)),
                  random.clone(key), random.wrap_key_data(random.key_data(key))):  # fmt: skip
        assert random.normal(other) == want
        with pytest.raises(KeyReuseError):
            random.normal(other)


def test_raw_keys_are_not_tracked():
    raw = random.PRNGKey(0)
    for f in (noisy, fg.jit(noisy), fg.grad(total(noisy)), fg.checkpoint(noisy)):
        for _ in range(2):
            f(X, raw)


def test_a_key_in_a_loop_of_unknown_length_is_not_counted():
    key = random.key(0)
    lax.while_loop(lambda x: x < 1.0, lambda x: x + 1.0 + 0 * random.normal(key), np.float32(2))
    random.normal(key)


def test_of_several_threads_one_may_use_a_key_that_others_use_in_an_array():
    for _ in range(20):
        keys = random.split(random.key(0), 3)
        uses = [
            lambda k=keys: random.bits(k[1]),
            lambda k=keys: fg.vmap(random.bits)(k),
            lambda k=keys: fg.vmap(random.bits)(k[:2]),
        ] * 2
        outcomes = []
        gate = threading.Barrier(len(uses))

        def run(use, gate=gate, outcomes=outcomes):
            gate.wait()
            try:
                use()
                outcomes.append("used")
            except KeyReuseError:
                outcomes.append("refused")

        threads = [threading.Thread(target=run, args=(use,)) for use in uses]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(outcomes) == len(uses)
        assert outcomes.count("used") <= 1


def test_memory_does_not_grow_with_the_uses_that_are_allowed():
    keys = random.split(random.key(0), 2)
    with fg.key_reuse("jax"):
        for _ in range(100):
            random.bits(keys[0])
    uses = keys[0]._data._uses
    assert len(uses.ledger._uses) == 1
