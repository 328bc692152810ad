"""Pullbacks and programs in files: pickled, copied, and run in another process."""

import copy
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.transforms.forward import is_differentiable
from fgrad.core.transforms.saving import _restored_array, _saved_array
from fgrad.errors import FgradError, ResidualsFreedError, SavingError
from fgrad.testing.functions import evaluate, inexact_only, random_like
from fgrad.testing.primitives import closed
from fgrad.testing.strategies import example_of

lax.load_all()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4)).astype(np.float32)
SQUARE = (X @ X.T + 3 * np.eye(3)).astype(np.float32)


def host_sin(x):
    return np.sin(x)


def through_host(callback):
    """A function whose reverse rule calls the host."""
    f = fg.custom_vjp(fnp.sin)
    f.defvjp(
        lambda x: (fnp.sin(x), x),
        lambda x, ct: (ct * fg.pure_callback(callback, x.aval, x),),
    )
    return f


def closure_rule(x):
    scale = fnp.array([1.0, 2.0, 3.0, 4.0])
    f = fg.custom_vjp(lambda x, n: {"y": fnp.sin(x) * n, "i": fnp.arange(2)})
    f.defvjp(
        lambda x, n: ({"y": fnp.sin(x) * n, "i": fnp.arange(2)}, (x, "static", n)),
        lambda r, ct: (ct["y"] * fnp.cos(r[0]) * scale, None),
    )
    return f(x, 3)["y"]


@fg.custom_jvp
def smooth(x):
    return fnp.tanh(x)


smooth.defjvps(lambda t, y, x: t * (1.0 - y * y))


@fg.custom_vjp
def recursive(x):
    return fnp.exp(x)


recursive.defvjp(lambda x: (recursive(x), x), lambda x, ct: (ct * recursive(x),))


def layouts(x):
    """Residuals that are views: transposed, strided, broadcast, reversed."""
    t = fnp.transpose(x)
    y = fnp.sum(t * fnp.broadcast_to(x[:, :1], (3, 4)).T, 0) * fnp.sum(x[::-1, ::2] ** 2)
    return fnp.einsum("ij,ik->jk", t, t)[:2] * y[:2, None] + fnp.exp(x[:, 1:3].T) @ x[:, :3]


def printing(x):
    fg.debug.print("x = {}", x.shape)
    return fnp.sin(x)


def while_below(x):
    state = lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, fnp.sin(s[1]) * 1.5), (0, x))
    return state[1]


def stepped(x):
    return lax.scan(lambda c, row: (fnp.sin(c) * row, c * row), x[0], x)


POLICY = fg.checkpoint_policies.save_from_both_policies(
    fg.checkpoint_policies.save_only_these_names("a"), fg.checkpoint_policies.dots_saveable
)
MODEL = nn.Sequential(
    nn.Linear(fg.random.key(0), 4, 8), nn.LayerNorm(8),
    nn.Linear(fg.random.key(1), 8, 2),
)  # fmt: skip
FUNCTIONS = {
    "chain": lambda x: fnp.tanh(fnp.sin(x) * x).sum(),
    "layouts": layouts,
    "families on first use": lambda x: lax.erf(x) + fnp.abs(fnp.fft.fft(x)),
    "linalg": lambda x: fnp.linalg.solve(SQUARE, x) + fnp.linalg.inv(SQUARE + x[:, :3])[:, :1],
    "jit": fg.jit(lambda x: fnp.tanh(x @ x.T) * fg.jit(fnp.sin)(x[:, :3])),
    "checkpoint": fg.checkpoint(lambda x: fnp.sin(fnp.sin(x) @ x.T), policy=POLICY),
    "scan": stepped,
    "jit of scan": fg.jit(stepped),
    "while": while_below,
    "cond": fg.jit(lambda x: lax.cond(x.sum() > 0, lambda x: x * x, fnp.sin, x)),
    "vmap": fg.vmap(lambda row: fnp.exp(row) * row.sum()),
    "custom_vjp": closure_rule,
    "custom_vjp in jit": fg.jit(closure_rule),
    "custom_vjp in vmap": fg.vmap(lambda row: recursive(row) * recursive(row)),
    "recursive rule in jit": fg.jit(lambda x: recursive(recursive(x) * 0.1)),
    "custom_jvp": smooth,
    "custom_jvp in jit": fg.jit(smooth),
    "tap": lambda x: fg.tap(x * x, functools.partial(fnp.clip, min=-1.0, max=1.0)),
    "callback of a module": through_host(np.cos),
    "printing": printing,
    "printing in jit": fg.jit(printing),
    "model": lambda x: fg.vmap(MODEL)(x),
    "dropped and integer outputs": lambda x: (x * 2.0, fnp.argmax(x), fnp.zeros(3)),
}


def cotangents(f):
    rng = np.random.default_rng(1)

    def ct(y):
        if not np.issubdtype(y.dtype, np.inexact):
            return np.zeros(y.shape, fg.float0)
        return rng.normal(size=y.shape).astype(y.dtype)

    return fg.tree.map(ct, fg.eval_shape(f, X))


def same_bits(got, want):
    pairs = list(zip(fg.tree.leaves(got), fg.tree.leaves(want), strict=True))
    assert pairs
    return all(
        a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs
    )


def test_every_pullback_gives_the_same_bits_in_another_process(tmp_path):
    saved = {}
    for name, f in FUNCTIONS.items():
        _, pullback = fg.vjp(f, X)
        ct = cotangents(f)
        saved[name] = (pullback, ct, [np.asarray(c) for c in fg.tree.leaves(pullback(ct))])
    path = tmp_path / "pullbacks.pickle"
    path.write_bytes(pickle.dumps(saved))
    code = f"""
import pickle, sys
import numpy as np
import fgrad as fg
with open({str(path)!r}, "rb") as file:
    saved = pickle.load(file)
assert "tests" not in sys.modules and len(saved) == {len(FUNCTIONS)}
for name, (pullback, ct, want) in saved.items():
    got = [np.asarray(c) for c in fg.tree.leaves(pullback(ct))]
    assert [g.tobytes() for g in got] == [w.tobytes() for w in want], name
    again = [np.asarray(c) for c in fg.tree.leaves(pullback.consume(ct))]
    assert [g.tobytes() for g in again] == [w.tobytes() for w in want], name
print("same", len(saved))
"""
    root = str(Path(__file__).resolve().parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root}, check=False,
    )  # fmt: skip
    assert run.stdout.endswith(f"same {len(FUNCTIONS)}\n"), run.stderr


DIFFERENTIABLE = [
    (prim, case)
    for prim in all_primitives()
    if not isinstance(prim.spec, Absent) and prim.spec.order
    for case in prim.spec.cases
]


@pytest.mark.parametrize(("prim", "case"), DIFFERENTIABLE, ids=lambda v: getattr(v, "name", v))
def test_the_pullback_of_every_primitive_can_be_saved(prim, case):
    dtype = next(d for d in prim.spec.dtypes if d in ("float64", "complex128"))
    problem = example_of(prim, case, dtype)
    if not problem.active or not is_differentiable(prim, problem.params):
        return
    f, xs = closed(problem)
    f = inexact_only(f)
    cts = [random_like(problem.rng, y) for y in evaluate(f, xs)]
    _, pullback = fg.vjp(f, *xs)
    loaded = pickle.loads(pickle.dumps(pullback))
    assert repr(loaded) == repr(pullback)
    assert same_bits(loaded(cts), pullback(cts))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_copy_is_independent(name):
    f = FUNCTIONS[name]
    _, pullback = fg.vjp(f, X)
    ct = cotangents(f)
    want = pullback(ct)
    for other in (copy.copy(pullback), copy.deepcopy(pullback)):
        assert same_bits(other.consume(ct), want)
    assert same_bits(pullback.consume(ct), want)


def test_a_loaded_pullback_is_a_pullback():
    _, pullback = fg.vjp(lambda x: fnp.tanh(x) * x, X)
    loaded = pickle.loads(pickle.dumps(pullback))
    assert [repr(r) for r in loaded.residuals] == [repr(r) for r in pullback.residuals]
    assert str(loaded.jaxpr) == str(pullback.jaxpr)
    again = pickle.loads(pickle.dumps(loaded))
    assert same_bits(fg.jit(again)(X), pullback(X))
    batch = np.stack([X, 2 * X])
    assert same_bits(fg.vmap(loaded)(batch), fg.vmap(pullback)(batch))
    # A value that several records keep is one array after loading, too.
    assert len(loaded.residuals) == len(fg.saved_residuals(lambda x: fnp.tanh(x) * x, X))
    loaded.consume(X)
    consumed = pickle.loads(pickle.dumps(loaded))
    with pytest.raises(ResidualsFreedError):
        consumed(X)


A = RNG.normal(size=(4, 5, 6))
VIEWS = {
    "plain": A,
    "scalar": np.float64(2.0).reshape(()),
    "empty": A[:0].T,
    "transposed": A.T,
    "permuted and reversed": A.transpose(1, 0, 2)[..., ::-2],
    "with gaps": A[:, :3, ::2],
    "backwards": A[::-1],
    "one column": A[..., 0],
    "broadcast": np.broadcast_to(A[:, :1], A.shape),
    "one number": np.broadcast_to(np.float64(2.0), (3, 4)),
    "windows": np.lib.stride_tricks.sliding_window_view(A[0, 0], 3),
}


@pytest.mark.parametrize("view", VIEWS)
def test_an_array_comes_back_with_the_layout_that_sums_follow(view):
    x = VIEWS[view]
    y = _restored_array(*pickle.loads(pickle.dumps(_saved_array(ArrayImpl(x)))))._data
    np.testing.assert_array_equal(x, y)
    assert [np.sign(s) for s, n in zip(y.strides, y.shape, strict=True) if n > 1] == [
        np.sign(s) for s, n in zip(x.strides, x.shape, strict=True) if n > 1
    ]
    flags = ("c_contiguous", "f_contiguous", "aligned")
    assert all(getattr(x.flags, f) == getattr(y.flags, f) for f in flags)
    for axes in [None, *range(x.ndim)]:
        assert np.square(x).sum(axes).tobytes() == np.square(y).sum(axes).tobytes()


def test_a_residual_in_another_layout_would_change_the_last_bits():
    x = fnp.asarray(RNG.normal(size=(33, 65)).astype(np.float32))
    _, pullback = fg.vjp(lambda y: fnp.sum(fnp.transpose(x) * y, 0)[0], np.float32(1.5))
    one = np.float32(1)
    assert same_bits(pickle.loads(pickle.dumps(pullback))(one), pullback(one))
    copied = fg.tree.map(lambda r: fnp.asarray(np.array(r, order="C")), pullback)
    assert not same_bits(copied(one), pullback(one))


def test_residuals_are_written_once_and_not_as_programs():
    x = np.ones((100, 100))
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x * x, x)
    kept = sum(r.nbytes for r in pullback.residuals)
    assert len(pickle.dumps(pullback)) < kept + 4000


def test_what_cannot_be_saved_is_named():
    _, pullback = fg.vjp(through_host(lambda x: np.cos(x)), X)
    with pytest.raises(SavingError, match=r"sin, asked for at .*test_saving.*<lambda>.*module"):
        pickle.dumps(pullback)
    assert same_bits(copy.deepcopy(pullback)(X), pullback(X))

    known = fg.custom_vjp(fnp.sin)
    known.defvjp(lambda x: (fnp.sin(x), x), lambda x, ct: (ct if float(ct.sum()) > 0 else x,))
    with pytest.raises(SavingError, match=r"bwd rule of sin cannot be staged.*float"):
        pickle.dumps(fg.vjp(known, X)[1])

    def inside(x):
        pickle.dumps(fg.vjp(fnp.sin, x)[1])
        return x

    with pytest.raises(SavingError, match=r"traced f32\[4\]; save it outside"):
        fg.vmap(inside)(X)
    assert issubclass(SavingError, FgradError)
    assert issubclass(SavingError, pickle.PicklingError)


def test_rules_inside_their_own_rule_are_not_in_the_file():
    _, pullback = fg.vjp(fg.jit(lambda x: recursive(x) * x), X)
    loaded = pickle.loads(pickle.dumps(pullback))

    def in_the_residuals(p):
        leaves, tree = fg.tree.flatten(p)
        ones = [fnp.ones_like(x) for x in leaves]
        return fg.jvp(lambda *xs: fg.tree.unflatten(tree, xs)(X), leaves, ones)

    want = in_the_residuals(pullback)
    with pytest.raises(SavingError, match="recursive, called inside its own rule"):
        in_the_residuals(loaded)
    # What was staged before the file was written is in it.
    assert same_bits(in_the_residuals(pickle.loads(pickle.dumps(pullback))), want)


def test_programs_can_be_pickled_and_copied():
    def f(x):
        y = lax.scan(lambda c, row: (fg.jit(fnp.sin)(c) * row, c), x[0], x)[1]
        return y @ fnp.asarray(X.T) + fg.checkpoint(fnp.exp)(x).sum() * np.float32("nan")

    closed_jaxpr = fg.make_jaxpr(f)(X)
    for other in (pickle.loads(pickle.dumps(closed_jaxpr)), copy.deepcopy(closed_jaxpr)):
        assert str(other) == str(closed_jaxpr)
        fg.core.check.check_jaxpr(other.jaxpr)
        run = fg.core.transforms.stage.eval_jaxpr
        assert same_bits(
            run(other.jaxpr, other.consts, fnp.asarray(X)),
            run(closed_jaxpr.jaxpr, closed_jaxpr.consts, fnp.asarray(X)),
        )
