"""Programs of other sizes take over what was decided for one: the same bits as if compiled anew."""

import gc
import operator
import weakref
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.backends.cpu import compiler
from fgrad.compile.replay import replays
from fgrad.compile.sizes import Mixed, Sizes
from fgrad.core.errors import FgradError

Arrays = list[np.ndarray[Any, Any]]


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Each test begins without plans of others."""
    replays.clear()
    yield
    replays.clear()


def _normal(*shape: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(sum(shape) + len(shape))
    return rng.normal(size=shape).astype(np.float32)


def _mlp(p: Any, x: Any, y: Any) -> Any:
    for w, b in p[:-1]:
        x = nn.relu(x @ w + b)
    w, b = p[-1]
    logits = x @ w + b
    return fnp.mean(nn.logsumexp(logits, axis=-1) - fnp.sum(y * logits, axis=-1))


def _step(p: Any, x: Any, y: Any) -> Any:
    value, g = fg.value_and_grad(_mlp)(p, x, y)
    return fg.tree.map(lambda a, b: a - 0.1 * b, p, g), value


def _mlp_args(n: int) -> Any:
    sizes = ((12, 16), (16, 8), (8, 10))
    return [(_normal(*s), _normal(s[1])) for s in sizes], _normal(n, 12), _normal(n, 10)


def _attention(p: Any, tokens: Any, targets: Any) -> Any:
    width, heads, length = 16, 2, tokens.shape[1]
    x = fnp.take(p["tokens"], tokens, axis=0) + p["positions"][:length]
    h = nn.layer_norm(x, p["g"], p["b"]) @ p["qkv"]
    h = h.reshape(len(tokens), length, 3, heads, width // heads)
    a = nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2], is_causal=True)
    x = x + a.reshape(len(tokens), length, width)
    logits = x @ p["head"]
    rows = fnp.take_along_axis(nn.log_softmax(logits), targets[..., None], axis=-1)
    return -fnp.mean(rows)


def _attention_args(n: int, length: int = 6) -> Any:
    p = {
        "tokens": _normal(11, 16), "positions": _normal(128, 16), "g": _normal(16),
        "b": _normal(16), "qkv": _normal(16, 48), "head": _normal(16, 11),
    }  # fmt: skip
    tokens = np.arange(n * length, dtype=np.int32).reshape(n, length) % 11
    return p, tokens, (tokens + 1) % 11


def _conv(x: Any, w: Any) -> Any:
    return fnp.sum(fnp.square(nn.max_pool(nn.conv(x, w, padding=1), 2)))


def _scan(x: Any, w: Any) -> Any:
    def body(h: Any, row: Any) -> Any:
        h = fnp.tanh(h @ w + row)
        return h, fnp.sum(h)

    return lax.scan(body, x[0], x)


def _norms(x: Any) -> Any:
    centred = x - fnp.mean(x, axis=0)
    return centred / fnp.sqrt(fnp.mean(fnp.square(centred), axis=0) + 1e-5), fnp.std(x)


def _shapes(x: Any) -> Any:
    both = fnp.concatenate([x, 2 * x[::-1]], axis=0)
    wide = fnp.pad(both, ((1, 2), (0, 0)))
    return wide.reshape(-1), both.T @ both, fnp.cumsum(x, axis=0), fnp.sort(x, axis=0)


def _masked(x: Any) -> Any:
    n = x.shape[0]
    weights = fnp.arange(n) / n
    lower = fnp.tril(fnp.ones((n, n), np.float32))
    return weights[:, None] * x, lower @ x, fnp.argmax(x, axis=0), x[fnp.arange(n) % 3 % n]


def _random(key: Any, x: Any) -> Any:
    return x + fg.random.normal(key, x.shape)


def _python(x: Any) -> Any:
    """What the user's Python does depends on the size."""
    return fnp.sum(x) if x.shape[0] > 6 else fnp.prod(x, axis=0)


def _updated(x: Any, y: Any) -> Any:
    return x.at[1:3].set(y[:2]), x.at[::2].add(1.0), lax.dynamic_slice(x, (1, 0), (2, 4))


PROGRAMS: dict[str, tuple[Callable[..., Any], Callable[[int], Any]]] = {
    "mlp step": (_step, _mlp_args),
    "attention": (fg.value_and_grad(_attention), _attention_args),
    "attention, lengths": (fg.value_and_grad(_attention), lambda n: _attention_args(3, n)),
    "conv": (fg.grad(_conv, argnums=(0, 1)), lambda n: (_normal(n, 3, 8, 8), _normal(4, 3, 3, 3))),
    "scan": (_scan, lambda n: (_normal(5, n, 4), _normal(4, 4))),
    "scan, steps": (_scan, lambda n: (_normal(n, 2, 4), _normal(4, 4))),
    "norms": (_norms, lambda n: (_normal(n, 16),)),
    "softmax": (lambda x: nn.softmax(x, axis=-1), lambda n: (_normal(4, n),)),
    "softmax gradient": (
        fg.grad(lambda x: fnp.sum(nn.softmax(x, axis=0) ** 2)),
        lambda n: (_normal(n, 3, 5),),
    ),
    "shapes": (_shapes, lambda n: (_normal(n, 4),)),
    "masked": (_masked, lambda n: (_normal(n, 5),)),
    "python": (_python, lambda n: (_normal(n, 5),)),
    "updated": (_updated, lambda n: (_normal(n + 4, 4), _normal(n + 2, 4))),
    "per sample": (
        fg.vmap(fg.grad(lambda x: fnp.sum(fnp.tanh(x) * x))), lambda n: (_normal(n, 7),)
    ),
    "elementwise": (lambda x: fnp.exp(x) * x + 1.0, lambda n: (_normal(n),)),
    "two sizes": (lambda x, y: x[:, None] * y + fnp.sum(x), lambda n: (_normal(n), _normal(8))),
    "square": (lambda x: x @ x + fnp.eye(x.shape[0], dtype=np.float32), lambda n: (_normal(n, n),)),
    "matmuls": (lambda x, w: fnp.tanh(x @ w) @ w.T, lambda n: (_normal(n, 8), _normal(8, 16))),
}  # fmt: skip


def _bits(tree: Any) -> list[tuple[Any, ...]]:
    leaves = fg.tree.leaves(tree)
    return [(np.asarray(x).dtype, np.asarray(x).shape, np.asarray(x).tobytes()) for x in leaves]


def _anew(f: Any, args: Any) -> Any:
    """What a program computes that is compiled when nothing is known."""
    kept = dict(replays._kept)
    replays.clear()
    try:
        return _bits(fg.jit(f)(*args))
    finally:
        replays._kept.clear()
        replays._kept.update(kept)


ORDERS = [
    (9, 7, 8, 16),
    (8, 16, 3, 1),
    (16, 12, 2, 0),
    (5, 10, 4, 11),
    (4, 8, 32, 64),
    (128, 96, 97),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_replayed_programs_give_the_bits_of_new_ones(name: str, order: tuple[int, ...]) -> None:
    f, make = PROGRAMS[name]
    jitted = fg.jit(f)
    for n in order:
        args = make(n)
        try:
            expected = _anew(f, args)
        except (FgradError, IndexError, ZeroDivisionError) as error:  # no program of that size
            with pytest.raises(type(error)):
                jitted(*args)
            continue
        assert _bits(jitted(*args)) == expected, f"size {n}"


def _replays(f: Any, *sizes: Any) -> int:
    """How many of the programs of some arguments were replayed."""
    jitted = fg.jit(f)
    for args in sizes:
        jitted(*args)
    assert jitted.cache_info().misses == len(sizes)
    return jitted.cache_info().replays


def test_numbers_of_bits_are_no_lengths() -> None:
    def f(key: Any, x: Any) -> Any:
        return fnp.sum(x * lax.random_bits(key, x.shape), axis=1)

    key = np.array([1, 2], np.uint32)
    assert _replays(f, *((key, _normal(n, 3)) for n in (32, 30, 16))) == 2


ALWAYS = ["mlp step", "scan", "norms", "softmax", "softmax gradient", "per sample", "elementwise"]


@pytest.mark.parametrize("name", ALWAYS)
def test_a_second_and_a_third_batch_size_are_replayed(name: str) -> None:
    f, make = PROGRAMS[name]
    assert _replays(f, make(40), make(36), make(39)) == 2


def test_no_machine_code_is_made_for_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    f, make = PROGRAMS["mlp step"]
    jitted = fg.jit(f)
    jitted(*make(40))
    asked: list[str] = []
    monkeypatch.setattr(compiler, "_texts", lambda kernels, *_: asked.extend(kernels) or [])
    jitted(*make(36))
    assert jitted.cache_info().replays == 1
    assert not asked


def test_what_first_coincides_is_told_apart_from_the_second_size_on() -> None:
    def f(x: Any, w: Any) -> Any:
        return fnp.tanh(x @ w)

    w = _normal(16, 16)  # the batch is as long as the width
    assert _replays(f, (_normal(16, 16), w), (_normal(12, 16), w), (_normal(20, 16), w)) == 1


def test_conditions_that_fail_mean_a_compile_of_its_own() -> None:
    def f(x: Any) -> Any:
        return fnp.sum(x.reshape(-1, 2), axis=0) if x.shape[0] % 2 == 0 else x

    assert _replays(f, (_normal(40),), (_normal(41),)) == 0  # another program
    assert _replays(lambda x, y: x + y, *((_normal(n, 8), _normal(8)) for n in (40, 1))) == 0


def test_literals_that_count_elements_follow_the_size() -> None:
    jitted = fg.jit(lambda x: fnp.mean(x, axis=0) * 0.5)
    for n in (40, 36, 7):
        x = _normal(n, 3)
        np.testing.assert_allclose(jitted(x), x.mean(0) * 0.5, rtol=1e-5)
    assert jitted.cache_info().replays == 2


def _with_zero(f: Callable[[Any, float], Any]) -> Any:
    """A function whose Python takes 0.0, -0.0 or 1.0, by the length of its argument."""
    return lambda x: f(x, (0.0, -0.0, 1.0)[x.shape[0] % 3])


SIGNED = {
    "fill": lambda x, v: fnp.pad(x, 2, constant_values=v),
    "part of a complex number": lambda x, v: x * complex(v, 1) + 1j * v,
    "two factors": lambda x, v: (x * v, x * -v),
}


@pytest.mark.parametrize("name", SIGNED)
def test_zeros_are_told_apart_by_their_signs(name: str) -> None:
    f = _with_zero(SIGNED[name])
    jitted = fg.jit(f)
    for n in (42, 40, 43, 45, 46, 47, 48, 49):
        x = _normal(n)
        assert _bits(jitted(x)) == _anew(f, (x,)), f"size {n}"
    assert jitted.cache_info().replays


def test_integers_longer_than_int64_are_no_lengths() -> None:
    most = 2**64 - 1
    with fg.enable_x64(True):
        jitted = fg.jit(lambda x: fnp.take(x, [1, 99], mode="fill", fill_value=most))
        for n in (40, 36):
            assert jitted(np.arange(n, dtype=np.uint64)).tolist() == [1, most]


def test_programs_of_other_lines_are_not_taken_for_each_other() -> None:
    assert _replays(lambda x: fnp.exp(x), (_normal(40),)) == 0
    assert _replays(lambda x: fnp.exp(x), (_normal(36),)) == 0


def test_a_replayed_program_names_its_own_types() -> None:
    jitted = fg.jit(lambda x, w: fnp.tanh(x @ w))
    low = []
    for n in (40, 36):
        args = _normal(n, 8), _normal(8, 4)
        jitted(*args)
        low.append(jitted.lower(*args))
    assert jitted.cache_info().replays == 1
    assert "f32[36,4]" in str(low[1].optimized)
    assert "f32[40" not in str(low[1].optimized)
    assert low[0].optimized.count() == low[1].optimized.count()
    assert [s.kind for s in low[0].schedule()] == [s.kind for s in low[1].schedule()]


def test_what_is_replayed_keeps_no_program_alive() -> None:
    x = _normal(40)
    jitted = fg.jit(lambda x: fnp.exp(x) * 2)
    jitted(x)
    (entry,) = {id(e): e for e in jitted._cache.values()}.values()
    program = weakref.ref(entry.program)
    assert program() is not None
    del jitted, entry
    gc.collect()
    assert program() is None


def test_callables_among_parameters_are_not_recorded() -> None:
    @fg.custom_vjp
    def f(x: Any) -> Any:
        return x * 2

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g * 3,))
    run = fg.grad(lambda x: fnp.sum(f(x)))
    jitted = fg.jit(run)
    for n in (40, 36):
        assert _bits(jitted(_normal(n))) == _bits(np.full(n, 3, np.float32))


def test_conditions_on_sizes() -> None:
    sizes = Sizes()
    n = sizes.new(8)
    m = sizes.new(6)
    total = n * 2 + m
    assert total > 20
    assert prod((2, n, 3)) == 48
    sizes.close()
    found = sizes.at([10, 5])
    assert found is None  # 2·3·10 is not 48
    assert sizes.at([8, 7]) is not None
    assert sizes.at([8, 4]) is None  # not more than 20


def test_a_use_as_an_integer_proper_fixes_a_size() -> None:
    sizes = Sizes()
    n = sizes.new(8)
    assert len([0] * n) == 8
    assert f"{n}" == "8"
    sizes.close()
    assert sizes.at([8]) is not None
    assert sizes.at([9]) is None
    with pytest.raises(Mixed, match="left over"):
        operator.index(n)


def test_sizes_of_two_programs_do_not_mix() -> None:
    n, m = Sizes().new(8), Sizes().new(8)
    assert n != m
    assert len({n, m}) == 2
    assert repr(n) != repr(m)
    with pytest.raises(Mixed, match="two programs"):
        n + m
    with pytest.raises(Mixed, match="no integer"):
        _ = n == 8.0


def test_sizes_that_a_table_tells_apart_stay_apart() -> None:
    sizes = Sizes()
    n, m = sizes.new(8), sizes.new(6)
    assert len({n, m}) == 2
    sizes.close()
    assert sizes.at([9, 7]) is not None
    assert sizes.at([7, 7]) is None


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_limits_that_indices_cannot_hold_are_a_miss(dtype: Any) -> None:
    def f(x: Any, start: Any) -> Any:
        return lax.dynamic_slice(x, (start,), (5,)), x[start]

    jitted = fg.jit(f)
    for n in (120, 110, 300, 115):
        args = _normal(n), dtype(100)
        assert _bits(jitted(*args)) == _anew(f, args), f"size {n}"
    assert jitted.cache_info().replays


def test_divisions_by_what_is_zero_now_are_a_miss() -> None:
    sizes = Sizes()
    n = sizes.new(8)
    assert 16 // n == 2
    sizes.close()
    assert sizes.at([0]) is None
