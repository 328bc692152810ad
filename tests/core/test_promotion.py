import itertools

import ml_dtypes  # noqa: F401  (its names become known to NumPy)
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.core.config import enable_x64, numpy_dtype_promotion
from fgrad.core.dtype_kinds import ALL, FLOAT8, float0, short_name
from fgrad.core.errors import DtypeError
from fgrad.core.promotion import pair_of, promote, promote_types, result_type, scalar_pair

STRONG = [(d, False) for d in ALL]
WEAK = [(np.dtype(name), True) for name in ("int64", "float64", "complex128")]
PAIRS = STRONG + WEAK
MODES = ("standard", "strict")


def word(pair):
    return short_name(pair[0]) + "*" * pair[1]


def table(promote_two, pairs=PAIRS):
    """The lattice as text: one line `a b → c` for each couple, `–` where nothing is above both."""
    lines = []
    for a, b in itertools.product(pairs, repeat=2):
        found = promote_two(a, b)
        lines.append(f"{word(a)} {word(b)} → {'–' if found is None else word(found)}")
    return "\n".join(lines)


def ours(a, b):
    try:
        return promote(a, b)
    except DtypeError:
        return None


@pytest.mark.parametrize("mode", MODES)
def test_the_lattice_is_the_golden_one(golden, mode):
    with enable_x64(True), numpy_dtype_promotion(mode):
        golden.check(f"promotion/{mode}.txt", table(ours))


def jax_pair(a, b):
    import jax

    def value(pair):
        d, weak = pair
        return {"i": 1, "f": 1.0, "c": 1j}[d.kind] if weak else np.zeros((), d)

    try:
        d, weak = jax.dtypes.result_type(value(a), value(b), return_weak_type_flag=True)
    except (TypeError, ValueError):
        return None
    return np.dtype(d), bool(weak)


@pytest.mark.peers
@pytest.mark.parametrize("mode", MODES)
def test_the_golden_lattice_is_that_of_jax(golden, mode):
    import jax

    with jax.enable_x64(True), jax.numpy_dtype_promotion(mode):
        text = table(jax_pair)
    kept = (golden.folder / f"promotion/{mode}.txt").read_text(encoding="utf-8")
    assert kept.splitlines() == text.splitlines()


@pytest.mark.peers
def test_32_bit_defaults_promote_as_in_jax():
    import jax

    # Without uint32: with a signed integer it makes int64, which JAX narrows to int32 and we keep.
    narrow = [p for p in STRONG if p[0].itemsize < 8 or p[0].name == "complex64"]
    narrow.remove((np.dtype("uint32"), False))
    weak = [scalar_pair(kind) for kind in (int, float, complex)]
    with jax.enable_x64(False):
        assert table(ours, narrow + weak) == table(jax_pair, narrow + weak)


PLAIN = [p for p in PAIRS if p[0] not in FLOAT8]


@given(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4), st.booleans(), st.randoms())
def test_the_dtype_of_the_result_ignores_order(pairs, x64, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    with enable_x64(x64):
        assert promote(*pairs) == promote(*shuffled)


@given(st.lists(st.sampled_from(STRONG), min_size=2, max_size=4))
def test_two_are_promoted_as_many_are(pairs):
    """Strong types form a lattice, so promoting them one by one is promoting them at once."""
    once, stepwise = ours_many(*pairs), pairs[0]
    for pair in pairs[1:]:
        stepwise = None if stepwise is None else ours(stepwise, pair)
    assert once == stepwise


def ours_many(*pairs):
    try:
        return promote(*pairs)
    except DtypeError:
        return None


def test_explicit_64_bit_types_are_not_narrowed_without_x64():
    for a, b, expected in [
        ("uint64", "int64", "float64"),
        ("uint64", "int8", "float64"),
        ("float64", "float32", "float64"),
        ("int64", "int32", "int64"),
        ("int64", "float32", "float32"),
    ]:
        assert promote_types(a, b).name == expected
    assert promote((np.dtype("float64"), True), (np.dtype("int32"), False)) == (np.float64, True)
    assert promote((np.dtype("uint64"), False), (np.dtype("int64"), False), scalar_pair(float)) == (
        np.float64,
        True,
    )


def test_python_scalars_take_the_default_width():
    assert result_type(1, 1.5).name == "float32"
    assert result_type(np.int64(1), 1.5).name == "float32"
    with enable_x64(True):
        assert result_type(1, 1.5).name == "float64"
        assert result_type(np.int32(1), 1.5).name == "float64"
        assert result_type(np.float32(1), 1.5).name == "float32"
    assert result_type(1, 1.5).name == "float32", "the memo must tell x64 on and off apart"


def test_pairs_of_values():
    class Weak:
        dtype = np.dtype("float32")
        weak_type = True

    assert pair_of(True) == (np.dtype(bool), False)
    assert pair_of(3) == pair_of(int) == (np.dtype("int32"), True)
    assert pair_of(1j) == (np.dtype("complex64"), True)
    assert pair_of(Weak()) == (np.dtype("float32"), True)
    assert pair_of(np.float64(1)) == pair_of(np.float64) == (np.dtype("float64"), False)
    assert pair_of(np.zeros(2, "int8")) == pair_of("int8") == (np.dtype("int8"), False)
    assert result_type(np.ones(1, "bfloat16"), np.float16(1)).name == "float32"


def test_a_single_pair_is_kept():
    assert promote((np.dtype("float32"), True)) == (np.dtype("float32"), True)
    assert promote((np.dtype(bool), True)) == (np.dtype(bool), False)
    assert result_type(float0) == float0
    assert promote((float0, False), (float0, False)) == (float0, False)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((STRONG[9], STRONG[10]), r"f8_e3m4, f8_e4m3 have no implicit promotion.*astype"),
        (((FLOAT8[3], False), WEAK[2]), "Python complex, f8_e4m3fn have no implicit promotion"),
        (((float0, False), STRONG[0]), "float0 promotes with no other dtype, got b, float0"),
        (((np.dtype(object), False), STRONG[0]), "dtype object is not supported"),
        ((), "at least one operand"),
    ],
)
def test_what_does_not_promote_raises(pairs, message):
    with pytest.raises(DtypeError, match=message):
        promote(*pairs)


def test_strict_promotion_says_how_to_go_on():
    with (
        numpy_dtype_promotion("strict"),
        pytest.raises(DtypeError, match=r"f32, i32 do not promote with .*'strict'; convert"),
    ):
        result_type(np.float32, np.int32)
    assert result_type(np.float32, np.int32).name == "float32"
