"""Train a small FLUX.1 on handwritten digits, from nothing to measured samples.

Run ``python examples/flux/train.py``. Ctrl-C stops after the current step with everything saved;
the same command with ``--resume`` goes on, bit for bit as if it had not been stopped. After a kill
it goes on from the last save.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import data
import fgrad as fg
import fgrad.numpy as fnp
import flow
import patches
import quality
import recipe as recipes
import report
import sample
import state as states
from fgrad import optim, random, tree
from layers import Params
from state import State

SAVE_EVERY = 50
INTERRUPTED = 130  # the shell's exit status of a program stopped by Ctrl-C

Step = Callable[..., tuple[Params, Params, Any, fg.Array]]


def make_step(recipe: recipes.Recipe) -> Step:
    """One compiled training step.

    Returns:
        ``step(params, average, optimizer, tokens[B, T, C], labels[B], key, count)`` ->
        ``(params, average, optimizer, loss)``.
    """
    optimizer = recipes.optimizer(recipe)

    def loss_fn(params: Params, tokens: fg.Array, labels: fg.Array, key: fg.Array) -> fg.Array:
        velocity = functools.partial(recipes.velocity, params, recipe, labels)
        return flow.loss(velocity, tokens, key)

    def step(
        params: Params,
        average: Params,
        opt_state: Any,
        tokens: fg.Array,
        labels: fg.Array,
        key: fg.Array,
        count: fg.Array,
    ) -> tuple[Params, Params, Any, fg.Array]:
        loss, grads = fg.value_and_grad(loss_fn)(params, tokens, labels, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optim.apply_updates(params, updates)
        # The average follows fast at first, or it would remember the random start for long.
        decay = fnp.minimum(recipe.ema, (1.0 + count) / (10.0 + count))
        average = tree.map(lambda a, p: a + (1.0 - decay) * (p - a), average, params)
        return params, average, opt_state, loss

    return fg.jit(step)


def next_batch(run: State, batch: int) -> tuple[State, np.ndarray]:
    """Indices ``[batch]`` of the next digits; a new order is drawn when this epoch's runs out."""
    digits = len(run.order)
    if run.position + batch > digits:
        key, order_key = random.split(run.key)
        order = np.asarray(random.permutation(order_key, digits), dtype=np.int32)
        run = dataclasses.replace(run, key=key, order=order, position=0)
    chosen = run.order[run.position : run.position + batch]
    return dataclasses.replace(run, position=run.position + batch), chosen


def advance(run: State, step: Step, tokens: np.ndarray, labels: np.ndarray, batch: int) -> State:
    """The run after one more step on the training digits ``tokens[N, T, C]``, ``labels[N]``."""
    run, chosen = next_batch(run, batch)
    key, step_key = random.split(run.key)
    params, average, optimizer, loss = step(
        run.params,
        run.average,
        run.optimizer,
        fnp.asarray(tokens[chosen]),
        fnp.asarray(labels[chosen]),
        step_key,
        fnp.asarray(run.step, fnp.float32),
    )
    return dataclasses.replace(
        run,
        params=params,
        average=average,
        optimizer=optimizer,
        key=key,
        losses=(*run.losses, float(loss)),
    )


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question to ask between steps; a second one stops at once."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, remember)
    try:
        yield lambda: bool(received)
    finally:
        for stopped, handler in previous.items():
            signal.signal(stopped, handler)


def train(run: State, steps: int, path: Path) -> State:
    """Train until ``steps`` steps are done or a stop is asked for, and save to ``path``."""
    recipe = recipes.SIZES[run.size]
    digits, _ = data.load()
    tokens = patches.patchify(data.to_model(digits.images), recipe.patch)
    step = make_step(recipe)
    saved = None
    bar = report.progress(steps, run.step, recipe.batch)
    with threadpool_limits(recipes.BLAS_THREADS), stop_requests() as stop, bar:
        while run.step < steps and not stop():
            run = advance(run, step, tokens, digits.labels, recipe.batch)
            bar.set_postfix(loss=f"{run.losses[-1]:.4f}", refresh=False)
            bar.update()
            if run.step % SAVE_EVERY == 0:
                states.save(run, path)
                saved = run.step
        if saved != run.step:
            states.save(run, path)
    return run


def begin(args: argparse.Namespace) -> State:
    """A new run, or the one in ``--out`` if ``--resume`` asks for it.

    Raises:
        FileNotFoundError: There is nothing to resume.
        ValueError: ``--size`` or ``--seed`` differ from those of the run to resume.
    """
    if not args.resume:
        digits, _ = data.load()
        return states.start(args.size or "small", args.seed or 0, len(digits.labels))
    run = states.load(args.out / states.FILE)
    for name in ("size", "seed"):
        asked, had = getattr(args, name), getattr(run, name)
        if asked is not None and asked != had:
            raise ValueError(
                f"--{name} {asked}: the run in {args.out} has {name} {had}; leave --{name} out to "
                f"resume it, or --resume to start anew"
            )
    return run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("out/flux"), help="directory of all results")
    p.add_argument("--steps", type=int, help="train until this many steps are done")
    p.add_argument("--seed", type=int, help="seed of weights, data order and noise (default 0)")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    p.add_argument("--size", choices=recipes.SIZES, help="model and recipe (default small)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Train, save, draw, measure; the exit status is 130 after Ctrl-C, else 0."""
    arguments = parser()
    args = arguments.parse_args(argv)
    if args.steps is not None and args.steps < 1:
        arguments.error(f"--steps {args.steps}: at least one step is needed")
    try:
        run = begin(args)
        args.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        arguments.error(str(error))
    steps = recipes.SIZES[run.size].steps if args.steps is None else args.steps

    run = train(run, steps, args.out / states.FILE)
    report.loss_curve(run.losses, args.out / "loss.png")
    if run.step < steps:
        print(f"stopped at step {run.step} of {steps}; go on with --resume --out {args.out}")
        return INTERRUPTED
    print(f"sampling {sample.PER_CLASS} digits of each class from {args.out / states.FILE}")
    print(quality.report(sample.write(args.out)))
    print(f"results in {args.out}: checkpoint, loss.png, samples.png, samples.npz, quality.json")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # a second one in training, or one while loading or sampling
        sys.exit(INTERRUPTED)
