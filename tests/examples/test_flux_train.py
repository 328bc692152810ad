"""Training the FLUX example: its files, its command line, and going on after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

PNG = b"\x89PNG\r\n\x1a\n"


def start(flux: SimpleNamespace, seed: int = 0) -> Any:
    return flux.state.start("tiny", seed, 1437)


def same_bytes(a: Path, b: Path) -> None:
    """The checkpoints hold the same bits."""
    left, right = load_file(a), load_file(b)
    assert left.keys() == right.keys()
    kinds = [{n: (v.shape, v.dtype) for n, v in side.items()} for side in (left, right)]
    assert kinds[0] == kinds[1]
    assert [n for n in left if left[n].tobytes() != right[n].tobytes()] == []


def test_a_checkpoint_returns_its_arrays_and_text(flux: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = {
        "x": np.arange(6.0).reshape(2, 3).T,
        "n": np.int32(7).reshape(()),
        "e": np.zeros((0, 2)),
    }
    flux.checkpoint.write(path, arrays, {"about": "test"})
    read, about = flux.checkpoint.read(path)
    assert about == {"about": "test"}
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert (read[name].shape, read[name].dtype) == (array.shape, array.dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failed_write_leaves_the_old_checkpoint(
    flux: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    flux.checkpoint.write(path, {"x": np.zeros(2)}, {})

    def no_space(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        flux.checkpoint.write(path, {"x": np.ones(2)}, {})
    np.testing.assert_array_equal(flux.checkpoint.read(path)[0]["x"], np.zeros(2))


def test_a_damaged_or_foreign_checkpoint_is_refused(flux: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        flux.state.load(path)
    flux.checkpoint.write(path, {"x": np.zeros(2)}, {})
    with pytest.raises(ValueError, match="not of a training run"):
        flux.state.load(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        flux.state.load(path)


@pytest.mark.parametrize("place", [40, 0.3, 0.6, -1])
def test_a_single_changed_bit_is_noticed(
    flux: SimpleNamespace, tmp_path: Path, place: float
) -> None:
    path = tmp_path / "a.safetensors"
    flux.state.save(start(flux), path)
    flux.state.load(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if 0 < place < 1 else int(place)] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged|is not a whole|was not written by"):
        flux.state.load(path)


def test_a_checkpoint_of_another_model_is_refused(flux: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    flux.state.save(start(flux), path)
    arrays, about = flux.checkpoint.read(path)
    name = "transformer.proj_out.bias"
    losses = {"losses": np.zeros(7, np.float32)}
    changes: list[tuple[dict[str, Any], str]] = [
        ({name: arrays[name][:1]}, rf"{name} is float32\[1\], and float32\[16\] in a run of size"),
        ({name: arrays[name].astype(np.float64)}, rf"{name} is float64\[16\]"),
        ({name: None}, f"lacks {name}"),
        ({"transformer.more": arrays[name]}, r"has an unknown transformer\.more"),
        ({"order": None}, "lacks order"),
    ]
    for change, message in changes:
        kept = {n: a for n, a in {**arrays, **change}.items() if a is not None}
        flux.checkpoint.write(path, kept, about)
        with pytest.raises(ValueError, match=message):
            flux.state.load(path)
    flux.checkpoint.write(path, arrays, {"run": about["run"].replace("tiny", "vast")})
    with pytest.raises(ValueError, match="size 'vast' is unknown; known are tiny, small, base"):
        flux.state.load(path)
    flux.checkpoint.write(path, {**arrays, **losses}, about)
    assert flux.state.load(path).step == 7


def test_a_file_of_another_program_is_refused(flux: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="was not written by this example"):
        flux.state.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        flux.state.load(path)


def test_resuming_is_bit_exact(flux: SimpleNamespace, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flux.train.train(start(flux), 4, whole)
    flux.train.train(start(flux), 2, parts)
    resumed = flux.state.load(parts)
    assert resumed.step == 2
    flux.train.train(resumed, 4, parts)
    same_bytes(whole, parts)
    flux.train.train(start(flux, seed=1), 4, parts)
    with pytest.raises(AssertionError):
        same_bytes(whole, parts)


def test_an_epoch_visits_each_digit_at_most_once(flux: SimpleNamespace) -> None:
    run, seen = flux.state.start("tiny", 0, 50), []
    for _ in range(6):
        run, chosen = flux.train.next_batch(run, 16)
        seen.append(chosen)
    for epoch in (seen[:3], seen[3:]):
        assert len(set(np.concatenate(epoch).tolist())) == 48
    assert not np.array_equal(seen[0], seen[3])


def test_training_lowers_the_loss(flux: SimpleNamespace, tmp_path: Path) -> None:
    run = flux.train.train(start(flux), 60, tmp_path / "run")
    assert np.mean(run.losses[-10:]) < 0.95 * np.mean(run.losses[:10])
    assert np.isfinite(run.losses).all()


def test_interrupting_saves_the_step_it_reached(
    flux: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = flux.train.advance

    def interrupted(run: Any, *rest: Any) -> Any:
        if run.step == 2:
            signal.raise_signal(signal.SIGINT)
        return advance(run, *rest)

    monkeypatch.setattr(flux.train, "advance", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    run = flux.train.train(start(flux), 10, tmp_path / "stopped")
    assert run.step == 3
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.setattr(flux.train, "advance", advance)
    flux.train.train(start(flux), 3, tmp_path / "unbroken")
    same_bytes(tmp_path / "unbroken", tmp_path / "stopped")


def run_until_saved(
    flux: SimpleNamespace, environment: dict[str, str], out: Path
) -> subprocess.Popen[str]:
    """train.py in a process of its own, past its first checkpoint."""
    process = subprocess.Popen(
        [
            sys.executable,
            flux.train.__file__,
            "--size",
            "tiny",
            "--steps",
            "1000000",
            "--out",
            str(out),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 240.0
    while not (out / flux.state.FILE).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no checkpoint; train.py says:\n{process.communicate()[0]}")
        time.sleep(0.02)
    return process


def finish(flux: SimpleNamespace, out: Path, tmp_path: Path) -> None:
    """Resume for two steps and compare with a run that was never stopped."""
    stopped = flux.state.load(out / flux.state.FILE)
    assert stopped.step >= flux.train.SAVE_EVERY
    flux.train.train(stopped, stopped.step + 2, tmp_path / "resumed")
    flux.train.train(start(flux), stopped.step + 2, tmp_path / "unbroken")
    same_bytes(tmp_path / "unbroken", tmp_path / "resumed")


def test_ctrl_c_leaves_a_checkpoint_that_goes_on(
    flux: SimpleNamespace, environment: dict[str, str], tmp_path: Path
) -> None:
    process = run_until_saved(flux, environment, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == flux.train.INTERRUPTED, output
    assert "go on with --resume" in output
    assert "Traceback" not in output
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(PNG)
    finish(flux, tmp_path / "out", tmp_path)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    flux: SimpleNamespace, environment: dict[str, str], tmp_path: Path
) -> None:
    process = run_until_saved(flux, environment, tmp_path / "out")
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    finish(flux, tmp_path / "out", tmp_path)


def test_the_command_leaves_every_result(
    flux: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--size", "tiny", "--out", str(tmp_path)]
    assert flux.train.main([*command, "--steps", "2", "--seed", "5"]) == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "checkpoint.safetensors",
        "loss.png",
        "samples.png",
        "samples.npz",
        "quality.json",
    }
    for name in ("loss.png", "samples.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    with np.load(tmp_path / "samples.npz") as samples:
        images, labels = samples["images"], samples["labels"]
    assert images.shape == (500, 8, 8)
    assert np.issubdtype(images.dtype, np.floating)
    assert images.min() >= 0.0
    assert images.max() <= 16.0
    assert np.issubdtype(labels.dtype, np.integer)
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 50))

    assert flux.train.main([*command, "--steps", "3", "--resume"]) == 0
    run = flux.state.load(tmp_path / flux.state.FILE)
    assert (run.step, run.seed) == (3, 5)
    with np.load(tmp_path / "samples.npz") as samples:
        assert not np.array_equal(samples["images"], images)
    assert flux.sample.main([str(tmp_path)]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "no checkpoint at"),
        (["--steps", "0"], "--steps 0: at least one step"),
        (["--size", "huge"], "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_refused(
    flux: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        flux.train.main(["--out", str(tmp_path / "none"), *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_resuming_another_run_is_refused(
    flux: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flux.state.save(start(flux, seed=3), tmp_path / flux.state.FILE)
    with pytest.raises(SystemExit):
        flux.train.main(["--out", str(tmp_path), "--resume", "--seed", "4"])
    assert "--seed 4: the run in" in capsys.readouterr().err


def test_the_progress_bar_shows_loss_and_speed(
    flux: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = flux.train.train(start(flux), 2, tmp_path / "run")
    shown = capsys.readouterr().err
    assert "32/32" in shown
    assert " samples/s, loss=" in shown
    assert f"loss={run.losses[-1]:.4f}]" in shown
