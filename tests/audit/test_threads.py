"""Seed table: threads train at once without a lock, and give what one thread gives."""

import ast
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import optim


def train(seed, steps=25, jit=True):
    """The bytes of the parameters after some steps of Adam."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 16, 4)).astype(np.float32)
    params = {"w": rng.normal(size=(4, 8 + seed % 3)).astype(np.float32),
              "v": rng.normal(size=(8 + seed % 3, 4)).astype(np.float32)}  # fmt: skip
    rule = optim.adam(1e-2)
    state = rule.init(params)

    def loss(p):
        return fnp.mean((fg.checkpoint(fnp.tanh)(x @ p["w"]) @ p["v"] - y) ** 2)

    gradient = fg.value_and_grad(loss)
    gradient = fg.jit(gradient) if jit else gradient
    for _ in range(steps):
        _, g = gradient(params)
        updates, state = rule.update(g, state, params)
        params = optim.apply_updates(params, updates)
    return [np.asarray(leaf).tobytes() for leaf in fg.tree.leaves(params)]


def run(*tasks):
    """Results of tasks that start together, one thread each."""
    results, errors = [None] * len(tasks), []
    barrier = threading.Barrier(len(tasks))

    def work(i):
        try:
            barrier.wait()
            results[i] = tasks[i]()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads meet inside every function
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(tasks))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_eight_threads_train_as_one_does_bit_for_bit(jit):
    serial = [train(seed, jit=jit) for seed in range(8)]
    assert len({b for s in serial for b in s}) == 16  # each trains a model of its own
    together = run(*[lambda seed=seed: train(seed, jit=jit) for seed in range(8)])
    assert together == serial


def test_eight_threads_share_one_jitted_function():
    step = fg.jit(fg.value_and_grad(lambda w, x: fnp.sum(fnp.tanh(x @ w) ** 2)))

    def work(seed):
        rng = np.random.default_rng(seed)
        out = []
        for n in rng.integers(1, 12, 40):
            w, x = rng.normal(size=(n, 3)), rng.normal(size=(5, n))
            v, g = step(w, x)
            out.append((np.asarray(v).tobytes(), np.asarray(g).tobytes()))
        return out

    serial = [work(seed) for seed in range(8)]
    step.clear_cache()
    assert run(*[lambda seed=seed: work(seed) for seed in range(8)]) == serial


def test_tracing_in_one_thread_while_another_runs_backward():
    x = np.linspace(-1, 1, 50)

    def chain(x):
        for _ in range(30):
            x = fnp.sin(x) * x + fnp.cos(x)
        return x

    _, pullback = fg.vjp(chain, x)
    expected = np.asarray(pullback(x)[0])
    program = str(fg.make_jaxpr(chain)(x))

    def trace():
        return [str(fg.make_jaxpr(chain)(x)) == program for _ in range(20)]

    def backward():
        return [(np.asarray(pullback(x)[0]) == expected).all() for _ in range(20)]

    def transforms():
        f = fg.jit(fg.vmap(fg.grad(chain)))
        return [np.allclose(f(x), expected / x, rtol=1e-9) for _ in range(10)]

    assert all(all(r) for r in run(trace, backward, trace, backward, transforms, backward))


def test_a_new_thread_starts_outside_of_every_transform():
    seen = []

    def f(x):
        thread = threading.Thread(target=lambda: seen.append(fg.grad(fnp.sin)(0.0)))
        thread.start()
        thread.join()
        return x * 2.0

    assert float(fg.grad(f)(1.0)) == 2.0
    assert float(fg.jit(f)(1.0)) == 2.0
    assert [float(s) for s in seen] == [1.0, 1.0]


def test_the_core_takes_no_lock():
    """No lock around tracing, transforms or dispatch (design 2.3, 13.12)."""
    root = Path(fg.__file__).parent
    # Registration of tree classes and changes of global flags write shared tables, under a lock.
    written = {"tree_registry.py", "config.py"}
    files = [f for f in root.glob("core/**/*.py") if f.name not in written]
    files += [*root.glob("lax/**/*.py"), *root.glob("api/**/*.py")]
    assert len(files) > 60
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            assert name not in {"Lock", "RLock", "Semaphore", "Condition"}, (file, node.lineno)
