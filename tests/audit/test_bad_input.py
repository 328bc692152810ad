"""Each kind of bad input raises one clear class, which names the user's line and what to do."""

import re
import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import errors, lax, nn, optim, random
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.tracing import bind
from fgrad.testing.strategies import dtype_named

X = np.ones((2, 3), np.float32)
Y = np.ones((4, 5), np.float32)


def raises(call, error, words, line=None):
    """Fails unless `call` raises `error` with `words`, at the line of `call` in this file."""
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, errors.FgradError)
    message = str(caught.value)
    line = line or call.__code__.co_firstlineno
    places = re.findall(r"\n  at (.*):(\d+) \(", message)
    assert [(f, int(n)) for f, n in places] == [(__file__, line)], message
    return message


# ------------------------------------------------------------------- shapes, in every primitive

INVALID = [
    pytest.param(p, wrong, id=f"{p.name}-{i}")
    for p in all_primitives()
    if not isinstance(p.spec, Absent)
    for i, wrong in enumerate(p.spec.invalid)
]


def operand(text):
    """``f32[2,3]`` as an array of ones."""
    short, shape = re.fullmatch(r"(\w+)\[(.*)\]", text).groups()
    names = {"b": "bool", "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16",
             "i32": "int32", "i64": "int64", "i8": "int8", "u8": "uint8", "u32": "uint32",
             "u64": "uint64", "i16": "int16", "u16": "uint16", "c64": "complex64",
             "c128": "complex128"}  # fmt: skip
    dims = tuple(int(n) for n in shape.split(",") if n)
    return as_value(np.ones(dims, dtype_named(names.get(short, short))))


@pytest.mark.parametrize("staged", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(("prim", "wrong"), INVALID)
def test_a_wrong_call_of_a_primitive_names_the_line(prim, wrong, staged):
    args = [operand(t) for t in wrong.types]

    def call(*values):
        return bind(prim, *values, **wrong.params)

    with pytest.raises(wrong.error) as caught:
        fg.jit(call)(*args) if staged else call(*args)
    message = str(caught.value)
    here = call.__code__.co_firstlineno + 1
    assert isinstance(caught.value, errors.FgradError)
    assert f"{__file__}:{here} " in message, message
    assert len(message.split("\n")[0]) > 20


SHAPES = {
    "add": (lambda: fnp.asarray(X) + Y, r"f32\[2,3\], f32\[4,5\].*needed"),
    "matmul": (lambda: fnp.asarray(X) @ Y, r"f32\[2,3\] @ f32\[4,5\]; transpose or reshape"),
    "where": (lambda: fnp.where(X > 0, X, Y), "broadcast"),
    "concatenate": (lambda: fnp.concatenate([X, Y]), r"f32\[2,3\], f32\[4,5\]"),
    "stack": (lambda: fnp.stack([X, Y]), "one shape"),
    "reshape": (lambda: fnp.reshape(X, 7), r"f32\[2,3\] has 6 elements"),
    "broadcast_to": (lambda: fnp.broadcast_to(X, (2, 4)), "must be 1 or 4"),
    "einsum": (lambda: fnp.einsum("ij,jk->ik", X, Y), "'j' .* lengths 3 and 4"),
    "dot_general": (
        lambda: lax.dot_general(X, Y, (((1,), (0,)), ((), ()))),
        "length 3 .* length 4",
    ),
    "conv": (lambda: nn.conv(X, Y), "spatial axes"),
    "attention": (lambda: nn.dot_product_attention(X, Y, Y), "expected"),
    "layer_norm": (lambda: nn.layer_norm(X, weight=np.ones(2)), r"weight must be \[3\]"),
    "group_norm": (lambda: nn.group_norm(X, 2), "do not divide the 3 channels"),
    "at set": (lambda: fnp.asarray(X).at[0].set(Y), "do not broadcast to the elements chosen"),
    "slice": (lambda: lax.slice(X, (0, 0), (9, 9)), "0:9:1 does not fit axis 0"),
    "iota": (lambda: lax.iota(np.float32, -1), "must not be negative"),
    "squeeze": (lambda: fnp.squeeze(X, 0), "length 1"),
    "numpy": (lambda: np.add(fnp.asarray(X), Y), "broadcast"),
    "scan": (lambda: lax.scan(lambda c, x: (c, x), 0.0, (X, Y)), "got 2 .* 4 "),
    "iterate": (lambda: list(fnp.ones(())), "cannot iterate"),
    "len": (lambda: len(fnp.ones(())), r"has no len\(\): f32\[\]"),
    "axis_size": (lambda: fg.vmap(lambda: 1.0, axis_size=-1)(), "must not be negative, got -1"),
    "repeat": (lambda: fnp.repeat(X, -1), "repeats must not be negative"),
    "random": (lambda: random.normal(random.key(0), (-1,)), "must not be negative"),
    "split": (lambda: random.split(random.key(0), -1), "must not be negative"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("wrap", ["plain", "jit", "grad", "vmap"])
def test_shapes_that_do_not_fit(name, wrap):
    call, words = SHAPES[name]
    if wrap == "plain":
        raises(call, errors.ShapeError, words)
        return
    wrapped = {
        "jit": lambda: fg.jit(lambda x: (call(), x)[1])(1.0),
        "grad": lambda: fg.grad(lambda x: (call(), x)[1])(1.0),
        "vmap": lambda: fg.vmap(lambda x: (call(), x)[1])(np.ones(2)),
    }[wrap]
    with pytest.raises(errors.ShapeError, match=words) as caught:
        wrapped()
    assert f"{__file__}:{call.__code__.co_firstlineno} " in str(caught.value)
    assert f"inside {wrap}" in str(caught.value)


AXES = {
    "sum": (lambda: fnp.sum(X, axis=3), "sum: axis 3 is out of range for an array with 2 axes"),
    "twice": (lambda: fnp.sum(X, axis=(0, -2)), "twice"),
    "transpose": (lambda: fnp.transpose(X, (0, 0)), "twice"),
    "softmax": (lambda: nn.softmax(X, axis=5), r"f32\[2,3\]"),
    "argmax": (lambda: fnp.argmax(X, axis=-3), "axis -3 is out of range"),
    "sort": (lambda: fnp.sort(X, axis=2), "axis 2 is out of range"),
    "cumsum": (lambda: fnp.cumsum(X, axis=2), "axis 2 is out of range"),
    "expand_dims": (lambda: fnp.expand_dims(X, 9), "axis 9 is out of range"),
    "moveaxis": (lambda: fnp.moveaxis(X, 0, 5), "axis 5 is out of range"),
    "vmap in": (lambda: fg.vmap(fnp.sin, in_axes=2)(X), r"axis 2 .*f32\[2,3\].*use None"),
    "vmap out": (lambda: fg.vmap(fnp.sin, out_axes=2)(X), "out_axes 2"),
    "vmap None": (lambda: fg.vmap(fnp.sin, out_axes=None)(X), "give an axis, or reduce over it"),
    "assoc": (lambda: lax.associative_scan(fnp.add, X, axis=4), "axis 4 is out of range"),
    "permutation": (lambda: random.permutation(random.key(0), X, axis=2), "axis 2 is out of range"),
    "categorical": (lambda: random.categorical(random.key(0), X, axis=2), "axis 2 is out of"),
    "choice": (lambda: random.choice(random.key(0), X, axis=2), "axis 2 is out of range"),
}


@pytest.mark.parametrize("name", AXES)
def test_bad_axes(name):
    call, words = AXES[name]
    raises(call, errors.AxisError, words)


INDICES = {
    "constant": (lambda: fnp.asarray(X)[5], "index 5 is out of bounds for axis 0 of length 2"),
    "negative": (lambda: fnp.asarray(X)[0, -4], "index -4 is out of bounds for axis 1 of length 3"),
    "too many": (lambda: fnp.asarray(X)[0, 0, 0], "too many indices: it has 2 axes"),
    "array": (lambda: fnp.asarray(X)[np.array([0, 9])], "index 9 is out of bounds.*correct it, or"),
    "take": (lambda: fnp.take(X, 9), "index 9"),
    "at": (lambda: fnp.asarray(X).at[9].set(0.0), "index 9"),
    "embedding": (lambda: nn.embedding(np.array([7]), X), "index 7"),
    "labels": (lambda: nn.cross_entropy(X, np.array([0, 9])), "label 9"),
    "jit": (lambda: fg.jit(lambda x: x[5])(X), "index 5"),
    "grad": (lambda: fg.grad(lambda x: x[0, 3])(X), "index 3"),
    "vmap": (lambda: fg.vmap(lambda x: x[3])(X), "index 3"),
    "unravel": (lambda: fnp.unravel_index(99, (2, 3)), "positions from 99 to 99 lie outside"),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices_out_of_bounds(name):
    call, words = INDICES[name]
    raises(call, errors.IndexOutOfBoundsError, words)


# --------------------------------------------------------------------------------- grad, vjp, jvp

GRADIENTS = {
    "integer": (lambda: fg.grad(lambda x: x * 1.0)(3), r"got i32\[\]; convert it with astype"),
    "bool": (lambda: fg.grad(lambda x: x * 1.0)(True), r"got b\[\]"),
    "int array": (lambda: fg.grad(fnp.sum)(np.arange(3)), r"got i\d\d\[3\].*allow_int"),
    "in a tree": (lambda: fg.grad(lambda p: p["x"])({"x": 1.0, "n": 2}), r"got i32\[\]"),
    "not scalar": (lambda: fg.grad(lambda x: x)(X), r"got f32\[2,3\]; sum it, or use fgrad.vjp"),
    "two results": (lambda: fg.grad(lambda x: (x, x))(1.0), "return one scalar, got a tree of 2"),
    "None": (lambda: fg.grad(lambda x: None)(1.0), "tree of 0"),
    "integer result": (lambda: fg.grad(lambda x: fnp.argmax(x))(X), r"real scalar .* got i32\[\]"),
    "complex result": (lambda: fg.grad(lambda x: (x * 1j).sum())(X), "pass holomorphic=True"),
    "real argument": (lambda: fg.grad(lambda x: x, holomorphic=True)(1.0), "needs complex"),
    "argnums": (lambda: fg.grad(lambda x: x, 3)(1.0), "argnums=3 names no positional argument"),
    "argnums type": (lambda: fg.grad(lambda x: x, "x"), "integer or a sequence of integers"),
    "argnums twice": (lambda: fg.grad(lambda x: x, (0, 0))(1.0), "twice"),
    "holomorphic": (lambda: fg.grad(fnp.abs, holomorphic=True)(1j), "return a complex scalar"),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_what_has_no_gradient(name):
    call, words = GRADIENTS[name]
    raises(call, errors.GradientTypeError, words)


def pullback():
    return fg.vjp(lambda x: {"a": x * 2, "b": x.sum()}, X)[1]


def one(shape=(), dtype=np.float32):
    return np.ones(shape, dtype)


COTANGENTS = {
    "tree": (lambda: pullback()(X), r"tree like the output .*'a'.*'b'.*got"),
    "None": (lambda: pullback()(None), "tree like the output"),
    "shape": (lambda: pullback()({"a": X.T, "b": one()}), r"shape \[3, 2\], the output \[2, 3\]"),
    "dtype": (lambda: pullback()({"a": X, "b": one(dtype=np.float64)}), "astype.'float32'"),
    "integer": (lambda: pullback()({"a": X.astype(int), "b": one()}), r"i64\[2,3\].*f32\[2,3\]"),
    "no derivative": (lambda: fg.vjp(fnp.argmax, X)[1](one()), "float0"),
    "consume": (lambda: pullback().consume({"a": X, "b": X}), "must be the same"),
    "transpose": (lambda: fg.linear_transpose(lambda x: 2.0 * x, X)(Y), "must be the same"),
    "tangent": (
        lambda: fg.jvp(fnp.sin, (X,), (Y,)),
        r"f32\[4,5\] must have the shape of its primal",
    ),
    "tangent dtype": (lambda: fg.jvp(fnp.sin, (X,), (X.astype(float),)), "astype.'float32'"),
    "tangent of int": (lambda: fg.jvp(lambda n: n * 1.0, (3,), (1,)), "float0"),
    "complex": (lambda: fg.vjp(fnp.sin, 1.0)[1](1j), r"c64\[\], the output f32\[\]"),
    "complex tangent": (lambda: fg.jvp(fnp.sin, (1.0,), (1j,)), "dtype of its primal"),
    "complex push": (lambda: fg.linearize(fnp.sin, 1.0)[1](1j), "dtype of its primal"),
}


@pytest.mark.parametrize("name", COTANGENTS)
def test_wrong_cotangents_and_tangents(name):
    call, words = COTANGENTS[name]
    raises(call, errors.CotangentError, words)


# ----------------------------------------------------------------------------------- leaked tracers

BOX = []


def leak(transform):
    BOX.clear()
    transform(lambda x: (BOX.append(x * 1.0), x * 2.0)[1])
    return BOX[0]


MAKERS = {
    "grad": lambda f: fg.grad(f)(1.0),
    "jvp": lambda f: fg.jvp(f, (1.0,), (1.0,)),
    "linearize": lambda f: fg.linearize(f, 1.0),
    "vmap": lambda f: fg.vmap(f)(np.ones(2, np.float32)),
    "jit": lambda f: fg.jit(f)(1.0),
    "checkpoint": lambda f: fg.checkpoint(f)(1.0),
    "scan": lambda f: lax.scan(lambda c, x: (f(c), None), 1.0, None, length=2),
}
USES = {
    "operation": lambda t: t + 1.0,
    "numpy": lambda t: np.sin(t),
    "truth": lambda t: bool(t > 0),
    "returned by grad": lambda t: fg.value_and_grad(lambda x: t)(1.0),
    "returned by vjp": lambda t: fg.vjp(lambda x: t, 1.0),
    "returned by jvp": lambda t: fg.jvp(lambda x: t, (1.0,), (1.0,)),
    "returned by vmap": lambda t: fg.vmap(lambda x: t, out_axes=None)(np.ones(2)),
    "returned by jit": lambda t: fg.jit(lambda x: t)(1.0),
    "aux": lambda t: fg.grad(lambda x: (x, t), has_aux=True)(1.0),
    "argument of grad": lambda t: fg.grad(lambda x: x)(t),
    "argument of jit": lambda t: fg.jit(lambda x: x)(t),
    "closure in grad": lambda t: fg.grad(lambda x: x * t)(1.0),
    "closure in jit": lambda t: fg.jit(lambda x: x * t)(1.0),
    "cotangent": lambda t: fg.vjp(fnp.sin, 1.0)[1](t * 1.0),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_leaked_tracer_raises_where_it_is_used(maker, use):
    tracer = leak(MAKERS[maker])
    call = USES[use]
    message = raises(
        lambda: call(tracer), errors.UnexpectedTracerError, r"was used outside of it.*return it",
        line=call.__code__.co_firstlineno,
    )  # fmt: skip
    assert "f32[]" in message


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "use", ["operation", "truth", "closure in grad", "closure in jit", "returned by vjp"]
)
def test_a_tracer_on_another_thread_raises(maker, use):
    caught = []

    def elsewhere(x):
        try:
            USES[use](x)
        except errors.FgradError as error:
            caught.append(error)

    def f(x):
        thread = threading.Thread(target=elsewhere, args=(x * 1.0,))
        thread.start()
        thread.join()
        return x * 2.0

    MAKERS[maker](f)
    assert caught
    for error in caught:
        assert type(error) is errors.UnexpectedTracerError
        assert f"{__file__}:{USES[use].__code__.co_firstlineno} " in str(error)


# --------------------------------------------------------------------------------- concretization


def store(x):
    out = np.zeros(2, np.float32)
    out[:] = x
    return out


CONCRETE = {
    "if": (lambda x: 1.0 if x.sum() > 0 else 2.0, errors.TracerBoolConversionError, "lax.cond"),
    "while": (lambda x: [1 for _ in iter(lambda: bool(x.sum()), False)],
              errors.TracerBoolConversionError, "truth value"),
    "in": (lambda x: x.sum() in (1, 2), errors.TracerBoolConversionError, "static"),
    "int": (lambda x: int(fnp.argmax(x)), errors.TracerIntegerConversionError, "static"),
    "range": (
        lambda x: range(fnp.argmax(x)), errors.TracerIntegerConversionError,
        "no Python integer",
    ),
    "list index": (
        lambda x: [1, 2][fnp.argmax(x)], errors.TracerIntegerConversionError,
        "dynamic_slice",
    ),
    "float": (lambda x: float(x.sum()), errors.TracerArrayConversionError, "fgrad.numpy instead"),
    "int of float": (lambda x: int(x.sum()), errors.TracerArrayConversionError, "fgrad.numpy"),
    "complex": (lambda x: complex(x.sum()), errors.TracerArrayConversionError, "complex"),
    "item": (lambda x: x.sum().item(), errors.TracerArrayConversionError, "debug.print"),
    "tolist": (lambda x: x.tolist(), errors.TracerArrayConversionError, "tolist (would|needs)"),
    "asarray": (lambda x: np.asarray(x), errors.TracerArrayConversionError, r"f32\[2\]"),
    "array of a list": (lambda x: np.array([x, x]), errors.TracerArrayConversionError, "asarray"),
    "store": (lambda x: store(x), errors.TracerArrayConversionError, "fgrad.numpy"),
    "out": (lambda x: np.sin(x, out=np.zeros(2)), errors.TracerArrayConversionError, "leave out"),
    "mask": (lambda x: x[x > 0], errors.NonConcreteBooleanIndexError, r"where\(mask, x, other\)"),
}  # fmt: skip
ALWAYS = ["float", "int of float", "complex", "item", "tolist", "asarray", "array of a list",
          "store", "out"]  # fmt: skip


@pytest.mark.parametrize("name", CONCRETE)
def test_concretization_under_jit(name):
    f, error, words = CONCRETE[name]
    line = f.__code__.co_firstlineno if name != "store" else store.__code__.co_firstlineno + 2
    message = raises(lambda: fg.jit(f)(np.ones(2, np.float32)), error, words, line=line)
    assert "inside jit of" in message
    if error is errors.TracerArrayConversionError and name != "out":
        assert "which is not known while jit of" in message


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_a_tracer_never_becomes_a_number_even_where_it_is_concrete(name, transform):
    f, error, words = CONCRETE[name]
    x = np.ones(2, np.float32)
    run = {
        "grad": lambda: fg.grad(f)(x),
        "vmap": lambda: fg.vmap(f)(np.stack([x, x])),
        "jvp": lambda: fg.jvp(f, (x,), (x,)),
    }[transform]
    with pytest.raises(error, match=words) as caught:
        run()
    if name != "out":
        known = transform != "vmap"
        assert ("lose its derivative" in str(caught.value)) == known
        assert ("is not known while vmap traces" in str(caught.value)) != known


def test_an_element_of_an_ndarray_is_not_overwritten_silently():
    out = np.zeros(2, np.float32)

    def f(x):
        out[0] = x.sum()
        return x.sum()

    # NumPy turns any error of an element's conversion into its own; ours is the cause.
    with pytest.raises(ValueError, match="setting an array element") as caught:
        fg.grad(f)(np.ones(2, np.float32))
    assert isinstance(caught.value.__cause__, errors.TracerArrayConversionError)
    assert f"{__file__}:{f.__code__.co_firstlineno + 1} " in str(caught.value.__cause__)
    assert not out.any()


# ------------------------------------------------------------------------------------ custom rules


def with_rules(fwd, bwd):
    f = fg.custom_vjp(lambda x, y: x * y)
    f.defvjp(fwd or (lambda x, y: (x * y, (x, y))), bwd or (lambda r, ct: (ct, ct)))
    return fg.grad(f)(2.0, 3.0)


def with_jvp(rule):
    f = fg.custom_jvp(lambda x: x * 2.0)
    f.defjvp(rule)
    return fg.jvp(f, (1.0,), (1.0,))


def defjvps(*rules):
    f = fg.custom_jvp(lambda x, y: x * y)
    f.defjvps(*rules)
    return fg.jvp(f, (1.0, 2.0), (1.0, 2.0))


RULES = {
    "no rule": (lambda: fg.custom_vjp(lambda x: x)(1.0), "no reverse rule; give one with .*defvjp"),
    "no jvp": (lambda: fg.custom_jvp(lambda x: x)(1.0), "no forward rule; give one with .*defjvp"),
    "arity": (lambda: with_rules(None, lambda r, ct: (ct,)), "each of its 2 .* got 1 entries"),
    "no tuple": (lambda: with_rules(None, lambda r, ct: ct), "must return a tuple"),
    "shape": (
        lambda: with_rules(None, lambda r, ct: (X, None)),
        r"f32\[2,3\] as .*which is f32\[\]",
    ),
    "dtype": (lambda: with_rules(None, lambda r, ct: (np.float64(1), None)), r"returned f64\[\]"),
    "tree": (lambda: with_rules(None, lambda r, ct: ({"a": ct}, None)), "for argument 0 the tree"),
    "fwd pair": (lambda: with_rules(lambda x, y: x, None), "must return a pair .output, residuals"),
    "jvp pair": (lambda: with_jvp(lambda p, t: p[0]), "must return a pair .output, tangent"),
    "jvp shape": (lambda: with_jvp(lambda p, t: (p[0], X)), r"f32\[2,3\] for an output f32\[\]"),
    "jvp dtype": (lambda: with_jvp(lambda p, t: (p[0], np.float16(1))), "it must be f32"),
    "jvp tree": (lambda: with_jvp(lambda p, t: (p[0], t)), "the trees must be the same"),
    "defjvps": (lambda: defjvps(lambda t, y, a, b: t), "gave 1 rules, the call has 2 arguments"),
    "complex": (lambda: with_rules(None, lambda r, ct: (1j, None)), "returned c64"),
    "jvp complex": (lambda: with_jvp(lambda p, t: (p[0] * 1.0, 1j)), "returned the tangent c64"),
}


@pytest.mark.parametrize("name", RULES)
def test_wrong_custom_rules(name):
    call, words = RULES[name]
    with pytest.raises(errors.CustomRuleError, match=words) as caught:
        call()
    assert f"\n  at {__file__}:" in str(caught.value)


# ----------------------------------------------------------------------- static arguments and trees

STATIC = {
    "number": (
        lambda: fg.jit(lambda x, n: x, static_argnums=1)(X, [1]),
        "hashable, got list; pass a tuple",
    ),
    "name": (lambda: fg.jit(lambda x, n: x, static_argnames="n")(X, n=[1]), "'n' of .* hashable"),
    "by position": (
        lambda: fg.jit(lambda x, n: x, static_argnames="n")(X, {}),
        "hashable, got dict",
    ),
    "beyond": (lambda: fg.jit(lambda x: x, static_argnums=1), "name no parameter"),
    "text as number": (lambda: fg.jit(lambda x: x, static_argnums="x"), "takes int or a sequence"),
    "number as text": (lambda: fg.jit(lambda x: x, static_argnames=0), "takes str or a sequence"),
    "checkpoint": (lambda: fg.checkpoint(lambda x: x, static_argnums=5)(X), "name no argument"),
    "make_jaxpr": (lambda: fg.make_jaxpr(lambda x: x, static_argnums=-2)(X), "name no argument"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATIC)
def test_bad_static_arguments(name):
    call, words = STATIC[name]
    raises(call, errors.StaticArgumentError, words)


TREES = {
    "jvp": (
        lambda: fg.jvp(fnp.sin, (1.0,), (1.0, 2.0)),
        "tangents must be a tree like the primals",
    ),
    "jvp types": (lambda: fg.jvp(fnp.sin, 1.0, 1.0), "as tuples or lists of arguments, got float"),
    "in_axes": (lambda: fg.vmap(lambda p: p, in_axes=({"b": 0},))({"a": X}), r"keys \['b'\]"),
    "out_axes": (lambda: fg.vmap(lambda x: x, out_axes=(0, 1))(X), "out_axes must be a prefix"),
    "has_aux": (lambda: fg.grad(lambda x: x, has_aux=True)(1.0), "return a pair"),
    "map": (lambda: fg.tree.map(lambda a, b: a, {"a": 1}, {"b": 1}), "'a'|'b'"),
    "scan": (lambda: lax.scan(lambda c, x: c, 0.0, X), "must return a pair"),
    "while": (lambda: lax.while_loop(lambda c: c < 3, lambda c: (c, c), 1.0), "tree like"),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_wrong_trees(name):
    call, words = TREES[name]
    raises(call, errors.TreeError, words)


VALUES = {
    "text": (lambda: fg.grad(lambda x: x)("abc"), "expected an array or a number, got str: 'abc'"),
    "text result": (lambda: fg.jit(lambda x: "abc")(1.0), "got str"),
    "objects": (lambda: fg.grad(fnp.sum)(np.array([object()])), "dtype object cannot be traced"),
    "byte order": (lambda: fnp.sin(np.ones(2, ">f8")), "native"),
    "index": (lambda: fnp.asarray(X)[1.0], "float 1.0; an index is made of"),
    "dtype": (lambda: fnp.asarray(X).astype("foo"), "'foo' is not a dtype"),
    "bits of floats": (lambda: fnp.asarray(X) & X, r"got f32\[2,3\]"),
    "slice": (lambda: fnp.asarray(X)[0.5:], r"bounds of a slice .*slice\(0.5, None, None\)"),
    "shape": (lambda: fnp.zeros(2.0), "zeros must be a sequence of integers, got tuple"),
    "lengths": (lambda: fnp.full((2, "a"), 1.0), "sequence of integers"),
    "reshape": (lambda: fnp.asarray(X).reshape(2.0, 3), "sequence of integers"),
    "lax.full": (lambda: lax.full((2.5,), 1.0), r"full: shape .* got tuple \(2.5,\)"),
    "lax.slice": (lambda: lax.slice(X, (0.5, 0), (1, 1)), "start_indices .* integers"),
    "axis": (lambda: fnp.sum(X, axis=1.5), "sum: axis must be an integer, got float 1.5"),
    "top_k": (lambda: lax.top_k(X, 1.5), "k must be an integer"),
    "axis_size": (lambda: fg.vmap(lambda: 1.0, axis_size=2.0)(), "axis_size must be an integer"),
    "eye": (lambda: fnp.eye(2.5), "N must be an integer"),
    "tri": (lambda: fnp.tri(np.ones(3)), "N must be an integer, got ndarray"),
    "neg": (lambda: lax.neg(np.array(True)), r"neg takes numbers, got b\[\]"),
    "random shape": (lambda: random.normal(random.key(0), "ab"), "sequence of integers"),
    "type": (lambda: fg.ShapeDtypeStruct((2.5,), np.float32), "sequence of integers"),
}


@pytest.mark.parametrize("name", VALUES)
def test_wrong_values(name):
    call, words = VALUES[name]
    raises(call, errors.DtypeError, words)


ARGUMENTS = {
    "truth": (lambda: bool(fnp.asarray(X)), "ambiguous; use"),
    "item": (lambda: fnp.asarray(X).item(), "one element"),
    "arange": (lambda: fnp.arange(0, 1, 0), "step must not be 0"),
    "dropout": (lambda: nn.dropout(1, X, 2.0), r"rate must lie in \[0, 1\], got 2"),
    "slice step": (lambda: fnp.asarray(X)[::0], "step of a slice must not be 0"),
    "checkpoint": (lambda: fg.checkpoint(3), "checkpoint takes a function, got int"),
    "policy": (lambda: fg.checkpoint(fnp.sin, policy="all"), "policy must be a function"),
    "cond": (lambda: lax.cond(True, 1.0, 2.0), "true_fun must be a function, got float"),
    "switch": (lambda: lax.switch(0, [1.0, 2.0]), "each branch must be a function"),
    "scan": (lambda: lax.scan(1, 2, X), "scan: f must be a function"),
    "while": (lambda: lax.while_loop(True, lambda c: c, 1.0), "cond_fun must be a function"),
    "fori": (lambda: lax.fori_loop(0, 2, None, 1.0), "body_fun must be a function"),
    "qr": (lambda: fnp.linalg.qr(X, mode="all"), "mode must be"),
    "norm": (lambda: fnp.linalg.norm(X, ord="foo"), "order 'foo' of a matrix is not known"),
    "pad": (lambda: fnp.pad(X, 1, mode="f"), "mode 'f' is not known"),
    "fft": (lambda: fnp.fft.fft(X, norm="f"), "norm must be"),
    "grad of None": (lambda: fg.vjp(None, 1.0), "expected a function to transform, got NoneType"),
    "jvp of None": (lambda: fg.jvp(None, (1.0,), (1.0,)), "expected a function"),
    "jacfwd of None": (lambda: fg.jacfwd(None)(1.0), "expected a function"),
    "make_jaxpr": (lambda: fg.make_jaxpr(3), "expected a function to transform, got int"),
    "eval_shape": (lambda: fg.eval_shape(None, 1.0), "expected a function"),
    "residuals": (lambda: fg.saved_residuals(3, 1.0), "expected a function"),
    "percentile": (lambda: fnp.percentile(X, 150), r"levels must lie in \[0, 1\]"),
    "quantile": (lambda: fnp.quantile(X, np.array([0.5, np.nan])), "levels must lie in"),
    "initializer": (
        lambda: nn.initializers.variance_scaling(-1.0, "fan_in", "normal"),
        "must not be negative",
    ),
    "chain": (lambda: optim.chain(optim.sgd(0.1), 3.0), "gradient transformations, got float"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments(name):
    call, words = ARGUMENTS[name]
    raises(call, errors.ArgumentError, words)


IN_PLACE = {
    "put": lambda x: np.put(x, [0], 1.0),
    "putmask": lambda x: np.putmask(x, [True, False, False], 1.0),
    "place": lambda x: np.place(x, np.ones((2, 3), bool), [1.0]),
    "fill_diagonal": lambda x: np.fill_diagonal(x, 1.0),
    "put_along_axis": lambda x: np.put_along_axis(x, np.zeros((1, 3), int), 1.0, 0),
    "copyto": lambda x: np.copyto(x, 1.0),
    "fnp.put": lambda x: fnp.put(x, 0, 1.0),
    "fnp.fill_diagonal": lambda x: fnp.fill_diagonal(x, 1.0),
    "fnp.place": lambda x: fnp.place(x, x > 0, [1.0]),
    "fnp.put_along_axis": lambda x: fnp.put_along_axis(x, fnp.zeros((1, 3), int), 1.0, 0),
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("wrap", ["plain", "grad"])
def test_functions_that_write_in_place_are_refused(name, wrap):
    call = IN_PLACE[name]

    def run():
        if wrap == "plain":
            call(fnp.asarray(X))
        else:
            fg.grad(lambda x: (call(x), x.sum())[1])(X)

    raises(run, errors.ImmutableArrayError, "immutable", line=call.__code__.co_firstlineno)


def test_functions_that_write_into_numpy_arrays_take_arrays():
    out = np.zeros(3)
    np.copyto(out, fnp.ones(3))
    np.put(out, [0], fnp.asarray([5.0]))
    np.testing.assert_array_equal(out, [5, 1, 1])


def test_the_line_is_the_users_where_a_library_stands_between():
    def f(x):
        return np.vectorize(lambda y: y * 2.0)(x).sum()

    line = f.__code__.co_firstlineno + 1
    raises(lambda: fg.grad(f)(np.ones(2)), errors.TracerArrayConversionError, "lose its", line=line)


UNKNOWN = {
    "function": lambda x: np.busday_count(x, x),
    "ufunc method": lambda x: np.add.at(x, [0], 1.0),
    "argument": lambda x: np.add(x, x, where=[True, False, True]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_numpy_functions_without_a_counterpart(name):
    call = UNKNOWN[name]
    raises(
        lambda: call(fnp.ones(3)), errors.UnsupportedCallError, r"no counterpart|not supported",
        line=call.__code__.co_firstlineno,
    )  # fmt: skip


# ----------------------------------------------------------------------------- masked arrays

MASKED = np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0], dtype=np.float32)
PLACES = np.ma.masked_array([0, 1], [0, 1])
CALLS_WITH_MASKS = {
    "asarray": lambda: fnp.asarray(MASKED),
    "array with a dtype": lambda: fnp.array(MASKED, "float32"),
    "inside a list": lambda: fnp.array([fnp.ones(3), MASKED]),
    "a masked element": lambda: fnp.array([MASKED[1], 1.0]),
    "lax": lambda: lax.sin(MASKED),
    "numpy": lambda: fnp.sort(MASKED),
    "an operator": lambda: fnp.ones(3) + MASKED,
    "a function of NumPy": lambda: np.add(fnp.ones(3), MASKED),
    "jit": lambda: fg.jit(lambda t: t["x"])({"x": MASKED}),
    "grad": lambda: fg.grad(lambda x: x.sum())(MASKED),
    "vmap": lambda: fg.vmap(lambda x: x)(MASKED),
    "a closure": lambda: fg.jit(lambda x: x * MASKED)(np.ones(3, "f")),
    "a cotangent": lambda: fg.vjp(fnp.sin, np.ones(3, "f"))[1](MASKED),
    "an index": lambda: fnp.ones(3)[PLACES],
    "a mask as index": lambda: fnp.ones(3)[MASKED > 1],
    "an update": lambda: fnp.ones(3).at[0].set(MASKED[1]),
    "repeats": lambda: fnp.repeat(fnp.ones(2), PLACES),
    "dlpack": lambda: fnp.from_dlpack(MASKED),
    "a callback": lambda: fg.pure_callback(lambda x: MASKED, np.zeros(3, "f"), np.ones(3, "f")),
}


@pytest.mark.parametrize("call", CALLS_WITH_MASKS.values(), ids=CALLS_WITH_MASKS)
def test_masks_are_not_dropped(call):
    with pytest.raises(errors.DtypeError, match=r"its mask would be lost.*filled"):
        call()


def test_the_error_about_a_mask_names_the_line():
    raises(lambda: fnp.sin(MASKED), errors.DtypeError, "MaskedArray f32")


def test_what_the_error_about_a_mask_proposes_works():
    both = fnp.asarray(MASKED.data), fnp.asarray(np.ma.getmaskarray(MASKED))
    filled = fnp.asarray(MASKED.filled(7))
    np.testing.assert_array_equal(np.asarray(fnp.where(both[1], 7, both[0])), np.asarray(filled))
