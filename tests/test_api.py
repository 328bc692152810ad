"""jit: signatures, static and donated arguments, closures, the cache, and threads."""

import functools
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import (
    BufferDonatedError,
    DonationError,
    StaticArgumentError,
    TracerBoolConversionError,
)

X = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Counted:
    """A function that counts how often it is traced."""

    def __init__(self, f):
        self.f, self.traces = f, 0

    def __call__(self, *args, **kwargs):
        self.traces += 1
        return self.f(*args, **kwargs)


def counted(f, **options):
    inner = Counted(f)
    return fg.jit(inner, **options), inner


def test_trees_in_and_out():
    f = fg.jit(lambda p, *, k: {"y": p["a"] * k, "z": (p["b"][0], None)})
    out = f({"a": X, "b": [X]}, k=3.0)
    np.testing.assert_array_equal(out["y"], 3 * X)
    np.testing.assert_array_equal(out["z"][0], X)
    assert out["z"][1] is None


def test_one_trace_a_signature():
    f, inner = counted(lambda x: x * 2)
    for x in (X, X + 1, fnp.asarray(X), X.T.copy().T):
        np.testing.assert_array_equal(f(x), 2 * np.asarray(x))
    assert inner.traces == 1
    for x in (X.astype(np.float32), X[:1], 1.0, np.float32(1), {"x": X}["x"].T):
        f(x)
    assert inner.traces == 6


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (X, X.astype(np.float32), "x: f64[2,3] -> f32[2,3]"),
        (X, X.T, "x: f64[2,3] -> f64[3,2]"),
        (np.float32(1), 1.0, "x: f32[] -> weak f32[]"),
        ({"a": [X, X]}, {"a": [X, X[0]]}, "x['a'][1]: f64[2,3] -> f64[3]"),
        ({"a": [X]}, {"a": (X,)}, "tree of x['a']: list of length 1 -> tuple of length 1"),
        ({"a": X}, {"b": X}, "tree of x: dict with keys ['a'] -> dict with keys ['b']"),
        ({"a": X}, {"a": [X]}, "tree of x['a']: a leaf -> list of length 1"),
        (X, None, "tree of x: a leaf -> None"),
        ([X] * 9, [X[0]] * 9, "; ".join(f"x[{i}]: f64[2,3] -> f64[3]" for i in range(3))
         + "; 6 more leaves"),
    ],
)  # fmt: skip
def test_cache_info_says_why_a_call_was_traced_again(first, second, reason):
    f = fg.jit(lambda x: x)
    f(first)
    f(first)
    f(second)
    info = f.cache_info()
    assert (info.hits, info.misses, info.currsize) == (1, 2, 2)
    assert info.reasons == (reason,)
    f.clear_cache()
    assert f.cache_info().currsize == 0
    f(first)
    assert f.cache_info().reasons[1].startswith("no program is kept")


def test_a_miss_is_compared_with_the_nearest_program_and_names_all_that_changed():
    @functools.partial(fg.jit, static_argnums=0, static_argnames="mode")
    def f(n, x, y=None, *rest, mode="a"):
        return x

    f(1, X, X)
    f(2, X.T, X.T)
    f(1, X, X.T)
    f(1.0, X, X.T)
    with fg.enable_x64(True):
        f(1, X, X, mode="b" * 100)
    f(1, X, X, X)
    fg.vmap(lambda i: f(1, X, X), axis_name="i")(fnp.arange(2))
    assert f.cache_info().reasons == (
        "static n: 1 -> 2; x: f64[2,3] -> f64[3,2]; y: f64[2,3] -> f64[3,2]",
        "y: f64[2,3] -> f64[3,2]",
        "static n: 1 -> 1.0",
        f"static mode: not given -> 'bbb{'b' * 56}…; config.enable_x64: False -> True",
        "tree of the positional arguments: tuple of length 2 -> tuple of length 3",
        "named axes: none -> i of 2",
    )


def test_a_static_argument_that_moves_to_a_keyword_is_named_once():
    @functools.partial(fg.jit, static_argnums=1, static_argnames="n")
    def f(x, n=1):
        return x

    f(X, 3)
    f(X, n=3)
    f(X)
    assert f.cache_info().reasons == (
        "static n: 3 by position -> 3 by keyword",
        "static n: 3 -> not given",
    )


def test_reasons_are_of_the_last_misses_and_of_programs_that_are_not_kept():
    f = fg.jit(lambda x: x)
    for n in range(70):
        f(np.ones(n))
    assert len(f.cache_info().reasons) == 64
    assert f.cache_info().reasons[-1] == "x: f64[68] -> f64[69]"

    def outer(y):
        g = fg.jit(lambda x: x * y)
        g(1.0)
        g(1.0)
        return g.cache_info().reasons

    reasons = []
    fg.grad(lambda y: reasons.append(outer(y)) or y)(1.0)
    assert reasons == [("the program of the same call was not kept: it closes over values being "
                        "traced",)]  # fmt: skip


def test_the_configuration_is_part_of_the_key():
    f, inner = counted(lambda x: fnp.zeros(2) + x)
    x = np.ones(2, np.float32)
    assert f(x).dtype == np.float32
    with fg.enable_x64(True):
        assert f(x).dtype == np.float64
        f(x)
    assert f(x).dtype == np.float32
    assert inner.traces == 2


def test_weak_results_stay_weak():
    f = fg.jit(lambda x: x * 2)
    assert f(1.0).weak_type
    assert (f(1.0) + np.ones(1, np.float16)).dtype == np.float16
    assert not f(np.float32(1)).weak_type


@pytest.mark.parametrize(
    "options",
    [
        {"static_argnums": 1},
        {"static_argnums": (-1,)},
        {"static_argnames": "n"},
        {"static_argnames": ("n",)},
    ],
)
@pytest.mark.parametrize(
    "call", [lambda f, n: f(X, n), lambda f, n: f(X, n=n), lambda f, n: f(x=X, n=n)]
)
def test_static_arguments_by_number_and_name(options, call):
    def power(x, n):
        for _ in range(n):
            x = x * 2
        return x

    f, inner = counted(power)
    f = fg.jit(power, **options)
    np.testing.assert_array_equal(call(f, 2), 4 * X)
    np.testing.assert_array_equal(call(f, 3), 8 * X)
    np.testing.assert_array_equal(call(f, 2), 4 * X)
    assert (f.cache_info().hits, f.cache_info().misses) == (1, 2)
    del inner


def test_static_values_of_different_types_are_different():
    f = fg.jit(lambda x, n: x * n, static_argnums=1)
    assert f(np.int32(1), 1).dtype == np.int32
    assert f(np.int32(1), 1.0).dtype == np.float32
    assert f(np.int32(1), True).dtype == np.int32
    assert f.cache_info().misses == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: fg.jit(lambda x, n: x, static_argnums=1)(X, [1]),
            "1 of .* must be hashable, got list",
        ),
        (
            lambda: fg.jit(lambda x, n: x, static_argnames="n")(X, n={}),
            "'n' of .* hashable, got dict",
        ),
        (
            lambda: fg.jit(lambda x: x, static_argnums=4),
            r"static_argnums .*\[4\] name no parameter",
        ),
        (
            lambda: fg.jit(lambda x: x, static_argnames="m"),
            r"\['m'\] name no parameter; they are x",
        ),
        (lambda: fg.grad(lambda x: fg.jit(lambda y, n: y * n, static_argnums=1)(x, x))(1.0),
         r"hashable|is traced"),
        (lambda: fg.jit(3), "takes a function, got int"),
    ],
)  # fmt: skip
def test_wrong_static_arguments_raise(make, words):
    with pytest.raises(StaticArgumentError, match=rf"{words}[\s\S]*test_api\.py"):
        make()


# --------------------------------------------------------------------------------------- donation


@pytest.mark.parametrize(
    "use",
    [
        lambda a: a + 1,
        np.asarray,
        lambda a: a[0],
        lambda a: a.sum(),
        lambda a: fg.jit(lambda x: x)(a),
        lambda a: fg.grad(fnp.sum)(a),
        lambda a: fg.vjp(fnp.sin, a),
        lambda a: fnp.sin(a),
        list,
        lambda a: fg.vmap(fnp.sin)(a),
        lambda a: a.reshape(3, 1),
        lambda a: fg.jit(lambda x: x + 1, donate_argnums=0)(a),
    ],
)
def test_every_use_of_a_donated_array_raises(use):
    a = fnp.ones(3)
    f = fg.jit(lambda x: x + 1, donate_argnums=0)
    np.testing.assert_array_equal(f(a), [2, 2, 2])
    assert (a.shape, a.dtype) == ((3,), np.float32)
    with pytest.raises(
        BufferDonatedError, match=r"f32\[3\] was donated to .*\n  at .*test_api\.py"
    ):
        use(a)


def test_borrowed_buffers_are_never_donated():
    x = X.copy()
    f = fg.jit(lambda x: x + 1, donate_argnums=0)
    f(x)
    f(x)
    np.testing.assert_array_equal(x, X)


def test_donation_by_name():
    a = fnp.ones(3)
    fg.jit(lambda x, y: y * 2, donate_argnames="y")(1.0, a)
    with pytest.raises(BufferDonatedError):
        a + 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda a: fg.jit(lambda x: x.sum(), donate_argnums=0)(a),
            r"donated f32\[3\].*fits no result",
        ),
        (
            lambda a: fg.jit(lambda x, y: x + y, donate_argnums=(0, 1))(a, a),
            r"same f32\[3\] 2 times",
        ),
        (lambda a: fg.jit(lambda x, y: x + y, donate_argnums=0)(a, a), r"same f32\[3\] 2 times"),
        (
            lambda a: fg.jit(lambda x: x, donate_argnums=0, static_argnums=0),
            "both static and donated",
        ),
        (
            lambda a: fg.jit(lambda x: x, donate_argnums=2),
            r"donate_argnums .*\[2\] name no parameter",
        ),
    ],
)
def test_donations_that_make_no_sense_raise(call, words):
    a = fnp.ones(3)
    with pytest.raises(DonationError, match=words):
        call(a)
    np.testing.assert_array_equal(a, [1, 1, 1])  # nothing was given away


# -------------------------------------------------------------------------- closures, borrowed data


def test_closed_over_arrays_are_inputs_as_they_were_at_the_trace():
    w = np.ones(3)
    f = fg.jit(lambda x: x * w)
    np.testing.assert_array_equal(f(np.ones(3)), [1, 1, 1])
    w[:] = 5.0
    np.testing.assert_array_equal(f(np.ones(3)), [1, 1, 1])
    np.testing.assert_array_equal(f(np.ones((2, 3))), np.full((2, 3), 5.0))  # a new trace
    lowered = f.lower(np.ones(3))
    assert len(lowered.optimized.invars) == 2
    np.testing.assert_array_equal(lowered.compile()(np.ones(3)), [5, 5, 5])


def test_results_never_share_memory_with_what_the_caller_may_write():
    x = X.copy()
    f = fg.jit(lambda x: (x, x[0], x.T, x.reshape(6), fnp.broadcast_to(x[0], (4, 3))))
    for _ in range(2):  # by the general path and by the quick one
        outs = f(x)
        kept = [np.array(y) for y in outs]
        x += 1.0
        for y, k in zip(outs, kept, strict=True):
            np.testing.assert_array_equal(y, k)


def test_closed_over_tracers_are_differentiated_and_never_cached():
    f = lambda w: fg.jit(lambda x: x * w)(2.0)  # noqa: E731
    assert float(fg.grad(f)(3.0)) == 2.0
    g = []

    def loss(w):
        if not g:
            g.append(fg.jit(lambda x: x * w))
        return g[0](2.0)

    assert float(fg.grad(loss)(3.0)) == 2.0
    with pytest.raises(TypeError, match="was used outside of it"):
        fg.grad(loss)(4.0)


def test_nested_and_under_every_transform():
    inner = fg.jit(lambda x: fnp.sin(x) * x)
    f = fg.jit(lambda x: inner(inner(x)))
    plain = lambda x: fnp.sin(fnp.sin(x) * x) * (fnp.sin(x) * x)  # noqa: E731
    np.testing.assert_allclose(f(X), plain(X))
    for transform in (lambda h: fg.grad(lambda x: h(x).sum()), fg.vmap,
                      lambda h: lambda x: fg.jvp(h, (x,), (x,))[1]):  # fmt: skip
        np.testing.assert_allclose(transform(f)(X), transform(plain)(X), rtol=1e-13)
        np.testing.assert_allclose(fg.jit(transform(f))(X), transform(plain)(X), rtol=1e-13)


def test_disable_jit_runs_the_function_itself():
    f = fg.jit(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(TracerBoolConversionError):
        f(X)
    with fg.disable_jit(True):
        np.testing.assert_array_equal(f(X + 5), X + 5)
    with pytest.raises(TracerBoolConversionError):
        f(X + 5)


def test_methods():
    class Model:
        @fg.jit
        def norm(self):
            return self["x"] * 2

    assert fg.jit(lambda self: self * 2)(1.0) == 2.0
    assert Model.__dict__["norm"].__get__(None) is Model.norm


def test_a_failed_trace_leaves_nothing_behind():
    def f(x, y=None):
        if x.shape == (3,):
            raise ValueError("not this one")
        return x * 2

    g = fg.jit(f)
    with pytest.raises(ValueError, match="not this one"):
        g(np.ones(3))
    g(x=np.ones(4))
    with pytest.raises(ValueError, match="not this one"):
        g(np.ones(3))


def test_threads_with_different_signatures_never_mix_programs():
    f = fg.jit(lambda x: fnp.full((), x.shape[0]) + 0 * x.sum())
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, 40, 150)
        wrong.extend(n for n in lengths if float(f(np.ones(n, np.float32))) != n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_lower_takes_types():
    lowered = fg.jit(lambda x: x @ x.T).lower(fg.ShapedArray((2, 3), np.dtype(np.float32)))
    assert [str(a) for a in lowered.jaxpr.out_avals] == ["f32[2,2]"]
    assert "def " in lowered.as_text()
