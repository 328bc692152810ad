"""Seed table: memory stays flat over 1,000 steps; nothing waits for the cycle collector."""

import gc
import resource
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, optim


def resident():
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def arrays():
    gc.collect()
    return sum(issubclass(type(x), fg.Array) for x in gc.get_objects())


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_thousand_steps_of_training(jit):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 64, 32)).astype(np.float32)
    params = {"w": rng.normal(size=(32, 32)).astype(np.float32)}
    rule = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(1e-3))
    state = rule.init(params)

    def loss(p):
        return fnp.mean((fg.checkpoint(fnp.tanh)(x @ p["w"]) - y) ** 2)

    gradient = fg.value_and_grad(loss)
    gradient = fg.jit(gradient) if jit else gradient

    def step(params, state):
        _, g = gradient(params)
        updates, state = rule.update(g, state, params)
        return optim.apply_updates(params, updates), state

    for _ in range(100):
        params, state = step(params, state)
    live, before = arrays(), resident()
    tracemalloc.start()
    try:
        traced = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            params, state = step(params, state)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - traced
    finally:
        tracemalloc.stop()
    for _ in range(800):
        params, state = step(params, state)
    assert arrays() == live
    assert grown < 64 * 1024, f"{grown} bytes more after 100 steps"
    assert resident() - before < 8 * 2**20


CALLS = {
    "grad": lambda x: fg.grad(lambda x: fnp.sum(fnp.sin(x) * x))(x),
    "grad of grad": lambda x: fg.grad(lambda x: fnp.sum(fg.grad(lambda z: fnp.sum(z**3))(x)))(x),
    "vjp": lambda x: fg.vjp(fnp.sin, x)[1].consume(x),
    "pullback kept": lambda x: fg.vjp(fnp.sin, x)[1](x),
    "jvp": lambda x: fg.jvp(fnp.sin, (x,), (x,)),
    "linearize": lambda x: fg.linearize(lambda x: fnp.tanh(x) * x, x)[1](x),
    "vmap": lambda x: fg.vmap(lambda t, k=None: fnp.sin(t))(x),
    "vmap of keywords": lambda x: fg.vmap(lambda *, k: fnp.sin(k))(k=x),
    "make_jaxpr": lambda x: fg.make_jaxpr(fnp.sin)(x),
    "eval_shape": lambda x: fg.eval_shape(fnp.sin, x),
    "checkpoint": lambda x: fg.grad(lambda x: fg.checkpoint(fnp.sin)(x).sum())(x),
    "custom": lambda x: fg.grad(lambda x: fg.tap(x, lambda ct: ct * 2).sum())(x),
    "cond": lambda x: fg.grad(lambda x: lax.cond(True, fnp.sin, fnp.cos, x).sum())(x),
    "einsum": lambda x: fg.grad(lambda x: fnp.einsum("i,i->", x, x))(x),
    "indexing": lambda x: fg.grad(lambda x: (x[1:] * x.at[0].set(3.0)[:-1]).sum())(x),
    "has_aux": lambda x: fg.value_and_grad(lambda x: (x.sum(), x * 2), has_aux=True)(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_go_when_their_last_reference_goes(name):
    """No reference cycle holds an array: it is freed without the cycle collector."""
    call = CALLS[name]
    x = fnp.asarray(np.linspace(0.1, 1.0, 1000))
    call(x)
    gc.collect()
    gc.disable()
    try:
        live = sum(issubclass(type(o), fg.Array) for o in gc.get_objects())
        call(x)
        gc_free = sum(issubclass(type(o), fg.Array) for o in gc.get_objects())
        assert gc_free == live
    finally:
        gc.enable()
    seen = weakref.ref(x)
    del x
    gc.collect()
    assert seen() is None, "something global keeps the argument"


@fg.custom_vjp
def doubled(x):
    return x * 2.0


doubled.defvjp(lambda x: (doubled(x), None), lambda _res, ct: (ct * 2.0,))


def looped(x):
    return lax.scan(lambda c, s: (fnp.sin(c) * s, c), x, fnp.arange(3.0))[0].sum()


FRESH = {
    "jit": lambda x: fg.jit(lambda x: fnp.sin(x) * 2.0)(x),
    "jit of grad": lambda x: fg.jit(lambda x: fg.grad(looped)(x))(x),
    "jit of a rule": lambda x: fg.jit(lambda x: fg.grad(lambda x: doubled(x).sum())(x))(x),
    "scan": lambda x: fg.grad(lambda x: looped(x))(x),
    "while": lambda x: lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] * s[1]), (0, x)
    ),
    "cond": lambda x: fg.vmap(lambda x: lax.cond(x > 0, lambda x: x, lambda x: -x, x))(x),
    "checkpoint": lambda x: fg.grad(fg.checkpoint(lambda x: fnp.sin(x).sum()))(x),
    "associative_scan": lambda x: lax.associative_scan(lambda a, b: a * b, x),
}


@pytest.mark.parametrize("name", [*CALLS, *FRESH])
def test_no_call_leaves_a_reference_cycle(name):
    call, x = {**CALLS, **FRESH}[name], fnp.asarray(np.linspace(0.1, 1.0, 10))
    call(x)
    call(x)
    gc.collect()
    gc.disable()
    try:
        call(x)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_program_keeps_a_bounded_number_of_programs_made_from_it():
    f = fg.jit(lambda x: fnp.sin(x).sum())
    batched = fg.vmap(f)
    for n in range(1, 600):
        batched(np.ones((n, 2), np.float32))
    (entry,) = {id(e): e for e in f._cache.values()}.values()
    assert len(entry.jaxpr.derived) <= 256


def test_the_cache_of_a_jitted_function_is_bounded_and_counts():
    f = fg.jit(lambda x: x * 2.0)
    for n in range(1, 400):
        f(np.ones(n, np.float32))
    info = f.cache_info()
    assert (info.hits, info.misses) == (0, 399)
    assert info.currsize <= 257
