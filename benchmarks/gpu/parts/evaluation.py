"""How long an image takes that is validated or judged, beside one that is trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Literal

from benchmarks.gpu.bench import Bench, Name, config, lines
from benchmarks.gpu.lines import Line, Measured
from benchmarks.gpu.timing import Company, case, company, median, phases, seconds
from sam2lora import evaluate
from sam2lora.evaluate import Predictor
from sam2lora.training import packing
from sam2lora.training.session import precision

_PACK = 4


def evaluation(bench: Bench) -> Iterator[Line]:
    """Milliseconds an image and trial, alone and in a pack.

    They are those of predicting it on the device, of resizing the logits to native size and measuring Dice, or all
    metrics, on one core of the host, and of the first two together with all cores.
    """
    yield from lines(bench, [
        (case(name, size, "bfloat16", trials), partial(_timed, bench, name, size, trials))
        for name, size in bench.form.usual for trials in (0, _PACK)
    ])  # fmt: skip


def _timed(bench: Bench, name: Name, size: int, trials: int) -> Iterator[Line]:
    group = company(bench, config(name, size, precision="bfloat16"), trials)
    group.epoch(2)
    first = group.sessions[0]
    images = range(len(first.sources[0]))
    each = 1000 / (len(images) * group.trials)
    cores = len(os.sched_getaffinity(0))
    with _predicting(group) as predictor, precision(first.config, first.runtime):

        def frames() -> None:
            runtime, prompt = first.runtime, first.config.test_prompt
            list(evaluate._frames(predictor, first.sources[0], images, prompt, runtime, 0, batch_size=4))

        def rows(metrics: Literal["all", "dice"], threads: int) -> None:
            evaluate.evaluate_each(
                predictor, first.sources[0], images, first.config.test_prompt, replace(first.runtime, threads=threads),
                role="val", seed=0, probabilities=(0.5,) * group.trials, metrics=metrics,
            )  # fmt: skip

        predicted = each * median(bench, frames)
        dice = each * median(bench, partial(rows, "dice", 1))
        every = each * seconds(bench, partial(rows, "all", 1))  # long enough to need no second look
        threaded = each * median(bench, partial(rows, "dice", cores))
    trained = 1000 * sum(group.within_step(partial(phases, bench)).values()) / (group.trials * first.config.batch_size)
    yield Measured(case(name, size, "bfloat16", trials), {
        "predict ms": predicted,
        "Dice ms": dice - predicted,
        "all metrics ms": every - predicted,
        "predict and Dice, all cores ms": threaded,
        "cores": cores,
        "train ms": trained,
        "validated / trained": threaded / trained,
    })  # fmt: skip


def _predicting(group: Company) -> AbstractContextManager[Predictor]:
    return (
        packing.predictor_of(group.sessions) if group.packed else evaluate.single_predictor(group.sessions[0].segmenter)
    )
