"""Threefry bits are the published ones: Random123's known answer, and JAX's numbers."""

import numpy as np
import pytest

from fgrad import lax

KEY = np.array([0, 42], np.uint32)  # of seed 42
# From JAX 0.10.2 with threefry_partitionable=True: random.bits(key, (2, 3), dtype).
BITS = {
    8: [[162, 217, 249], [215, 21, 216]],
    16: [[5026, 12505, 63993], [49623, 29461, 20184]],
    32: [[2098992034, 2919706841, 2646866425], [2409546199, 1935504149, 2516274904]],
    64: [
        [7871734211187709741, 276886910877598708, 10591095138341673235],
        [13462782411356743825, 12687676868490354166, 11878554724538143822],
    ],
}


def test_a_block_is_the_known_answer_of_random123():
    out = lax.random_fold_in(np.zeros(2, np.uint32), np.uint32(0))
    assert [hex(w) for w in np.asarray(out)] == ["0x6b200159", "0x99ba4efe"]


@pytest.mark.parametrize("width", BITS)
def test_bits_are_those_of_jax(width):
    out = np.asarray(lax.random_bits(KEY, (2, 3), width))
    assert out.dtype == f"uint{width}"
    assert out.tolist() == BITS[width]


def test_split_keys_are_those_of_jax():
    expected = [[1832780943, 270669613], [64467757, 2916123636], [2465931498, 255383827]]
    assert np.asarray(lax.random_split(KEY, (3,))).tolist() == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [(0, [1832780943, 270669613]), (1, [64467757, 2916123636]), (2**31, [3181546281, 2228815013])],
)
def test_folded_keys_are_those_of_jax(data, expected):
    assert np.asarray(lax.random_fold_in(KEY, np.uint32(data))).tolist() == expected


def test_keys_in_a_batch_are_keys_alone():
    keys = np.array([[1, 2], [3, 4]], np.uint32)
    both = np.asarray(lax.random_bits(keys, (5,), 32))
    assert both.tolist() == [np.asarray(lax.random_bits(k, (5,), 32)).tolist() for k in keys]


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 0)], ids=str)
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_bits_of_random_keys_are_those_of_jax(shape, width):
    import jax

    rng = np.random.default_rng(width)
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        for key in rng.integers(0, 2**32, (3, 2), dtype=np.uint32):
            expected = np.asarray(jax.random.bits(key, shape, f"uint{width}"))
            assert np.asarray(lax.random_bits(key, shape, width)).tolist() == expected.tolist()
            data = rng.integers(0, 2**32, dtype=np.uint32)
            folded = np.asarray(jax.random.fold_in(key, data))
            assert np.asarray(lax.random_fold_in(key, data)).tolist() == folded.tolist()
