"""The measures of the FLUX example, on samples whose quality is known."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


def test_the_split_is_whole_disjoint_and_on_the_scale(flux: SimpleNamespace) -> None:
    train, held_out = flux.data.load()
    assert len(train.images) + len(held_out.images) == 1797
    for digits in (train, held_out):
        assert digits.images.shape[1:] == (8, 8)
        assert (digits.images.min(), digits.images.max()) == (0.0, 16.0)
        assert np.bincount(digits.labels).min() >= 0.09 * len(digits.labels)
    again, _ = flux.data.load()
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(
        flux.data.from_model(flux.data.to_model(train.images)), train.images
    )


def test_real_digits_score_as_real(flux: SimpleNamespace) -> None:
    _, held_out = flux.data.load()
    scores = flux.quality.measure(*held_out)
    assert scores["accuracy"] > 0.98
    assert scores["diversity"] == pytest.approx(1.0, abs=0.03)
    assert scores["novelty"] == pytest.approx(1.0, abs=1e-12)
    assert flux.quality.passed(scores)


def test_each_fault_is_found_by_its_measure(flux: SimpleNamespace) -> None:
    train, held_out = flux.data.load()
    copied = flux.quality.measure(*train)
    assert copied["novelty"] == pytest.approx(0.0, abs=1e-6)
    first = [int(np.argmax(held_out.labels == label)) for label in range(10)]
    collapsed = flux.quality.measure(
        np.repeat(held_out.images[first], 5, axis=0), np.repeat(np.arange(10), 5)
    )
    assert collapsed["diversity"] == pytest.approx(0.0, abs=1e-6)
    confused = flux.quality.measure(held_out.images, (held_out.labels + 1) % 10)
    assert confused["accuracy"] < 0.02
    for scores in (copied, collapsed, confused):
        assert not flux.quality.passed(scores)
        assert "below the bar" in flux.quality.report(scores)


def test_the_command_scores_a_directory(
    flux: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, held_out = flux.data.load()
    np.savez(tmp_path / "samples.npz", images=held_out.images, labels=held_out.labels)
    assert flux.quality.main([str(tmp_path)]) == 0
    assert "novelty  100.0%" in capsys.readouterr().out
    np.savez(tmp_path / "samples.npz", images=held_out.images, labels=held_out.labels[::-1])
    assert flux.quality.main([str(tmp_path)]) == 1
    with pytest.raises(SystemExit):
        flux.quality.main([str(tmp_path / "nowhere")])
    assert "nowhere/samples.npz does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_run_passes_every_bar_within_five_minutes(
    flux: SimpleNamespace, environment: dict[str, str], tmp_path: Path
) -> None:
    script = Path(flux.train.__file__)
    began = time.monotonic()
    subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path)], check=True, env=environment
    )
    assert time.monotonic() - began < 300.0
    with np.load(tmp_path / "samples.npz") as samples:
        images, labels = samples["images"], samples["labels"]
    assert (np.bincount(labels) == 50).all()
    assert flux.quality.passed(flux.quality.measure(images, labels))
