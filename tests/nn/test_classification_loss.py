import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 4, 5))
CLASSES = np.array([[0, 4, 2, 1], [3, 3, -100, 0]])
WEIGHT = RNG.random(5) + 0.5
PROBS = RNG.dirichlet(np.ones(5), size=(2, 4))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def rows(logits, classes, weight, smoothing, ignore=-100):
    """Loss and weight of each row, one at a time."""
    losses, weights = np.zeros(classes.shape), np.zeros(classes.shape)
    log_probs = log_softmax(logits)
    for at in np.ndindex(classes.shape):
        target = classes[at]
        if target == ignore:
            continue
        smooth = (weight * log_probs[at]).sum() / logits.shape[-1]
        picked = weight[target] * log_probs[at][target]
        losses[at] = -(1 - smoothing) * picked - smoothing * smooth
        weights[at] = weight[target]
    return losses, weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_classes_follows_its_formula(smoothing, weighted):
    weight = WEIGHT if weighted else None
    losses, weights = rows(LOGITS, CLASSES, WEIGHT if weighted else np.ones(5), smoothing)
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / weights.sum()}
    for reduction, value in expected.items():
        actual = nn.cross_entropy(
            LOGITS, CLASSES, weight, reduction=reduction, label_smoothing=smoothing
        )
        np.testing.assert_allclose(np.asarray(actual), value, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_probabilities_follows_its_formula(smoothing):
    smooth = (1 - smoothing) * PROBS + smoothing / 5
    losses = -(smooth * WEIGHT * log_softmax(LOGITS)).sum(-1)
    actual = nn.cross_entropy(LOGITS, PROBS, WEIGHT, label_smoothing=smoothing, reduction="none")
    np.testing.assert_allclose(np.asarray(actual), losses, rtol=1e-12)
    actual = nn.cross_entropy(LOGITS, PROBS, WEIGHT, label_smoothing=smoothing)
    np.testing.assert_allclose(float(actual), losses.mean(), rtol=1e-12)


def test_one_hot_probabilities_equal_classes():
    classes = np.where(CLASSES < 0, 0, CLASSES)
    np.testing.assert_allclose(
        float(nn.cross_entropy(LOGITS, np.eye(5)[classes])),
        float(nn.cross_entropy(LOGITS, classes)),
        rtol=1e-12,
    )


def test_the_ignored_class_may_be_any():
    classes = np.where(CLASSES < 0, 3, CLASSES)
    losses, _ = rows(LOGITS, classes, np.ones(5), 0.0, ignore=3)
    actual = nn.cross_entropy(LOGITS, classes, ignore_index=3, reduction="none")
    np.testing.assert_allclose(np.asarray(actual), losses, rtol=1e-12)


def test_ignored_rows_get_no_gradient_even_if_they_are_not_finite():
    logits = LOGITS.copy()
    logits[1, 2] = np.nan
    value, gradient = fg.value_and_grad(lambda x: nn.cross_entropy(x, CLASSES))(logits)
    clean = fg.grad(lambda x: nn.cross_entropy(x, CLASSES))(LOGITS)
    assert np.isfinite(float(value))
    assert (np.asarray(clean)[1, 2] == 0).all()
    kept = CLASSES != -100
    np.testing.assert_allclose(np.asarray(gradient)[kept], np.asarray(clean)[kept], rtol=1e-12)


def test_the_mean_over_no_row_is_nan():
    assert np.isnan(float(nn.cross_entropy(LOGITS, np.full((2, 4), -100))))


def test_the_gradient_of_cross_entropy_is_softmax_minus_target():
    gradient = fg.grad(lambda x: nn.cross_entropy(x, PROBS, reduction="sum"))(LOGITS)
    np.testing.assert_allclose(
        np.asarray(gradient), np.exp(log_softmax(LOGITS)) - PROBS, rtol=1e-11, atol=1e-14
    )


def test_derivatives_match_differences(check_gradient):
    x = LOGITS[:, :2, :4] + 0.0
    classes, weight = np.array([[0, 3], [2, -100]]), WEIGHT[:4]
    check_gradient(lambda x, w: nn.cross_entropy(x, classes, w, label_smoothing=0.2), x, weight)
    check_gradient(lambda x, w: nn.nll_loss(x, classes, w), x, weight)
    check_gradient(lambda x, t: nn.cross_entropy(x, t, label_smoothing=0.2), x, PROBS[:, :2, :4])
    # t · log t is too steep near 0 for the differences.
    check_gradient(lambda x, t: nn.kl_div(x, t, "none"), x, PROBS[:, :2, :4] + 0.2)
    check_gradient(lambda x, t: nn.kl_div(x, t, "none", log_target=True), x, x[::-1])


def test_nll_loss_picks_the_target():
    log_probs = log_softmax(LOGITS)
    losses, weights = rows(LOGITS, CLASSES, WEIGHT, 0.0)
    np.testing.assert_allclose(
        float(nn.nll_loss(log_probs, CLASSES, WEIGHT)), losses.sum() / weights.sum(), rtol=1e-12
    )


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    assert float(nn.cross_entropy(logits, np.array([0, 1]))) == 0.0
    assert float(nn.cross_entropy(logits, np.array([1, 0]))) == 2e4


P = np.array([0.1, 0.5, 0.9])
T = np.array([0.0, 0.3, 1.0])


def test_binary_cross_entropy_follows_its_formula(check_gradient):
    losses = -(T * np.log(P) + (1 - T) * np.log(1 - P))
    weight = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(float(nn.binary_cross_entropy(P, T)), losses.mean(), rtol=1e-13)
    np.testing.assert_allclose(
        np.asarray(nn.binary_cross_entropy(P, T, weight, "none")), weight * losses, rtol=1e-13
    )
    check_gradient(nn.binary_cross_entropy, P, T)


def test_binary_cross_entropy_is_held_at_100():
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0])
    value, gradient = fg.value_and_grad(lambda p: nn.binary_cross_entropy(p, t, None, "sum"))(p)
    assert float(value) == 200.0
    assert np.isfinite(np.asarray(gradient)).all()


def test_binary_cross_entropy_with_logits_equals_that_of_the_sigmoid(check_gradient):
    x = np.log(P / (1 - P))
    weight, pos_weight = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5])
    losses = -weight * (pos_weight * T * np.log(P) + (1 - T) * np.log(1 - P))
    np.testing.assert_allclose(
        np.asarray(nn.binary_cross_entropy_with_logits(x, T, weight, "none", pos_weight)),
        losses,
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        float(nn.binary_cross_entropy_with_logits(x, T)),
        float(nn.binary_cross_entropy(P, T)),
        rtol=1e-12,
    )
    check_gradient(lambda x, t: nn.binary_cross_entropy_with_logits(x, t, weight), x, T)


@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div_follows_its_formula(log_target):
    log_probs = log_softmax(LOGITS)
    target = np.log(PROBS) if log_target else PROBS
    losses = PROBS * (np.log(PROBS) - log_probs)
    expected = {
        "none": losses,
        "sum": losses.sum(),
        "mean": losses.mean(),
        "batchmean": losses.sum() / 2,
    }
    for reduction, value in expected.items():
        actual = nn.kl_div(log_probs, target, reduction, log_target=log_target)
        np.testing.assert_allclose(np.asarray(actual), value, rtol=1e-11)


def test_kl_div_of_a_zero_probability_is_zero_with_finite_gradients():
    target = np.array([0.0, 1.0])
    log_probs = np.log(np.array([0.5, 0.5]))
    gradient = fg.grad(lambda t: nn.kl_div(log_probs, t, "sum"))(target)
    assert np.asarray(nn.kl_div(log_probs, target, "none"))[0] == 0.0
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_dtype_is_kept(dtype):
    assert nn.cross_entropy(LOGITS.astype(dtype), CLASSES).dtype == dtype
    assert nn.binary_cross_entropy_with_logits(P.astype(dtype), T.astype(dtype)).dtype == dtype
    assert nn.kl_div(P.astype(dtype), T.astype(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.cross_entropy(LOGITS, CLASSES[0]), r"must be \[2, 4\], .* got \[4\]"),
        (lambda: nn.cross_entropy(LOGITS, PROBS[0]), "must have one shape"),
        (lambda: nn.cross_entropy(LOGITS, CLASSES, np.ones(4)), r"weight must be \[5\], .* \[4\]"),
        (lambda: nn.cross_entropy(LOGITS, CLASSES, label_smoothing=2.0), r"in \[0, 1\], got 2.0"),
        (lambda: nn.cross_entropy(LOGITS, CLASSES, reduction="avg"), "got 'avg'"),
        (lambda: nn.nll_loss(LOGITS, PROBS[..., 0]), "nll_loss needs integer classes, got target"),
        (lambda: nn.kl_div(P, T[:2]), "must have one shape"),
    ],
)
def test_wrong_arguments_are_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("bad", [-1, 3])
def test_a_target_that_is_no_class_raises(wrap, bad):
    # The last class is the likely one: had -1 counted from the end, the loss would look fine.
    logits = np.array([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]], np.float32)
    target = np.array([bad, 2])
    for loss in (
        nn.cross_entropy,
        nn.nll_loss,
        lambda x, t: nn.cross_entropy(x, t, weight=np.ones(3, np.float32)),
        fg.grad(nn.cross_entropy),
    ):
        words = rf"(index|label) {bad} is out of bounds"
        with pytest.raises(fg.errors.IndexOutOfBoundsError, match=words):
            wrap(loss)(logits, target)
    ignoring = wrap(lambda x, t: nn.cross_entropy(x, t, ignore_index=bad))
    # Compiled code may differ from eager code in the last place of a float32.
    want = nn.cross_entropy(logits[1:], target[1:])
    np.testing.assert_allclose(ignoring(logits, target), want, rtol=1e-6)


def test_swapped_arguments_are_an_error():
    with pytest.raises(TypeError, match=r"needs float logits, got i64\[2\] with target f32\[2,3\]"):
        nn.cross_entropy(np.array([0, 1]), np.ones((2, 3), np.float32))
