"""``python -m sam2lora.predict``: segment photographs with a trained adapter (files: ``prediction_writer``)."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from sam2lora import trained
from sam2lora.cli.messages import say
from sam2lora.cli.options import (
    INTERRUPTED,
    add_adapter,
    add_machine,
    choose_device,
    given_files,
    number,
    path_option,
    positive,
    refuse,
)
from sam2lora.cli.parser import Parser
from sam2lora.datasets.eye import why_no_fundus
from sam2lora.datasets.listing import summary
from sam2lora.datasets.pairs import Pixels, failure
from sam2lora.datasets.reading import read_photograph
from sam2lora.errors import DataError, OutOfMemory, Sam2LoraError
from sam2lora.models.segmenter import Segmenter
from sam2lora.models.weights import files_by_digest
from sam2lora.photographs import Photographs, find_photographs
from sam2lora.prediction_writer import Output, claim, content_digest, write_pictures, write_row
from sam2lora.runtime import Runtime
from sam2lora.tiles import View, logits_of, view
from sam2lora.trained import TrainedAdapter
from sam2lora.training.memory import is_out_of_memory
from sam2lora.training.session import precision

FAILED = 1


def parser() -> argparse.ArgumentParser:
    """The command line of the prediction."""
    command = Parser(
        prog="python -m sam2lora.predict",
        description="Segment photographs with a trained adapter. Writes DIR/masks (0 and 255, in the image's size), "
        "DIR/overlays, DIR/probabilities on request, and DIR/images.csv: for each image its sha256, its size, the "
        "pixels that the field of view was resized to, the pixels of the field of view and of the structure, their "
        "ratio, the mean probability of the predicted class over the field of view, and the seconds it took. "
        "Subfolders are searched, too, and results lie in folders of the same names. An image with an EXIF rotation is "
        "rotated, and so are its results. Existing results are kept, so the same command continues after an "
        "interruption.",
        epilog="Exit status: 0, 1 if an image could not be used, 2 if nothing could be done.",
    )
    command.add_argument(
        "images", nargs="+", type=path_option, metavar="IMAGES", help="8-bit colour images, and folders of them"
    )
    command.add_argument("--out", type=path_option, required=True, metavar="DIR", help="folder of the results")
    add_adapter(command)
    output = command.add_argument_group("the output")
    output.add_argument(
        "--probabilities",
        type=int,
        choices=(8, 16),
        metavar="BITS",
        help="write probabilities, too, as PNG of 8 or 16 bits, from 0 to the maximum",
    )
    output.add_argument("--no-overlays", action="store_true", help="write no overlays")
    output.add_argument(
        "--threshold",
        type=number(lambda value: 0 < value < 1, "a number between 0 and 1"),
        metavar="P",
        help="predict a pixel above this probability (default: the adapter's threshold)",
    )
    output.add_argument("--overwrite", action="store_true", help="predict images again that have results")
    command.add_argument(
        "--unchecked",
        action="store_true",
        help="also segment pictures that show no fundus in colour: black, white or flat ones, strips, other colours, "
        "and partly grey ones without a bright disc (default: refuse them)",
    )
    command.add_argument(
        "--tiles",
        type=number(lambda value: 1 <= value < math.inf, "a number of 1 or more"),
        default=1.0,
        metavar="K",
        help="resize the field of view to K times the pixels that the model was trained with, at most the image's own, "
        "and predict overlapping tiles: this resolves thin structures, but all of them look up to K times wider than "
        "in training (default: 1, the whole field of view as in training)",
    )
    group = add_machine(command)
    group.add_argument(
        "--batch-size", type=positive, default=4, metavar="N", help="images or tiles at once (default: 4)"
    )
    return command


@dataclass
class Job:
    """A prediction in progress: its model, its settings, its output, and the counts of its images by outcome.

    ``borderless``: the images without a visible dark border, each of which is all field of view.
    """

    adapter: TrainedAdapter
    segmenter: Segmenter
    runtime: Runtime
    output: Output
    finer: float
    batch_size: int
    unchecked: bool
    borderless: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("written", "already there", "failed"), 0))


@dataclass(frozen=True)
class Opened:
    """An opened image: the name of its results, its file, its pixels and what the model sees of them.

    ``contents``: sha256 of the file.
    """

    name: str
    file: Path
    contents: str
    image: Pixels
    view: View
    seconds: float


def run(job: Job, files: Mapping[str, Path], console: Console) -> None:
    """Predict ``files``, count the outcomes in ``job.counts``, and report every file that could not be used."""
    group = job.batch_size if job.finer == 1 else 1  # the tiles of an image fill whole batches
    names = list(files)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=len(names))
        for begin in range(0, len(names), group):
            opened = list(_opened(job, {name: files[name] for name in names[begin : begin + group]}, console))
            if opened:
                _predict(job, opened)
            bar.advance(task, min(group, len(names) - begin))


def _opened(job: Job, files: Mapping[str, Path], console: Console) -> Iterator[Opened]:
    for name, file in files.items():
        started = time.perf_counter()
        try:
            image, contents = read_photograph(file), content_digest(file)
            if not job.unchecked and (why := why_no_fundus(image)) is not None:
                remedy = "leave it out, or segment it anyway with --unchecked"
                raise failure(file, "a photograph must show a fundus in colour", why, remedy)
            seen = view(image, job.segmenter.image_size, job.finer)
            yield Opened(name, file, contents, image, seen, time.perf_counter() - started)
        except DataError as error:
            _report_failure(job, error, console)


def _report_failure(job: Job, error: DataError, console: Console) -> None:
    job.counts["failed"] += 1
    say(console, str(error), "failed", "bold red")


def _predict(job: Job, opened: Sequence[Opened]) -> None:
    started = time.perf_counter()
    frames = np.concatenate([photograph.view.frames for photograph in opened])
    with precision(job.adapter.config, job.runtime):
        logits = logits_of(lambda images: job.segmenter(images).logits, frames, job.runtime.device, job.batch_size)
    share, done = (time.perf_counter() - started) / len(opened), 0
    for photograph in opened:
        started = time.perf_counter()
        image_logits = photograph.view.joined(logits[done : done + len(photograph.view.frames)])
        done += len(photograph.view.frames)
        fov = photograph.view.native.fov
        row = write_pictures(job.output, photograph.name, photograph.image, fov, image_logits)
        seconds = photograph.seconds + share + time.perf_counter() - started
        row |= {
            "image": photograph.name,
            "file": str(photograph.file),
            "sha256": photograph.contents,
            "pixels_per_field": photograph.view.side,
            "seconds": round(seconds, 3),
        }
        write_row(job.output.folder, row)
        job.counts["written"] += 1
        if fov.all():
            job.borderless.append(photograph.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        photographs, adapter = _find_inputs(arguments)
        files = photographs.files
        job = _job(arguments, adapter)
        settings = {
            "adapter": job.adapter.digest,
            "tiles": job.finer,
            "threshold": job.output.threshold,
            "probabilities": job.output.bits,
            "overlays": job.output.overlays,
        }
        wanted = claim(job.output.folder, settings, files, arguments.overwrite)
        job.counts["already there"] = len(files) - len(wanted)
        if job.adapter.config.test_prompt.oracle:
            tested = "The adapter was tested with prompts from the ground truth"
            say(console, f"{tested}; new images have none: expect lower scores.")
        for closed in photographs.closed:
            _report_failure(job, closed, console)
        run(job, wanted, console)
    except (Sam2LoraError, ValueError) as error:
        return refuse(console, error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return refuse(console, OutOfMemory(f"A batch must fit into memory, but {error}: lower --batch-size."))
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to continue.")
        return INTERRUPTED
    if job.borderless:
        some = ", ".join(job.borderless[:5]) + (" and others" if len(job.borderless) > 5 else "")
        say(
            console,
            f"{len(job.borderless)} without a dark border, so the whole image counts as field of view (right for "
            f"crops of the disc): {some}",
        )
    if photographs.left_out:
        say(console, f"ignored in the folders: {summary(photographs.left_out)}")
    counts = ", ".join(f"{count} {what}" for what, count in job.counts.items())
    say(console, f"{len(files)} images: {counts}. Results: {job.output.folder}")
    return FAILED if job.counts["failed"] else 0


def _find_inputs(arguments: argparse.Namespace) -> tuple[Photographs, TrainedAdapter]:
    """The images and the adapter of a command line; an error reports both if both are wrong."""
    try:
        photographs = find_photographs(arguments.images)
    except DataError as images:
        try:
            trained.find(arguments.adapter, arguments.runs, arguments.storage)
        except Sam2LoraError as adapter:
            raise DataError(f"{images}\n{adapter}") from adapter
        raise
    return photographs, trained.find(arguments.adapter, arguments.runs, arguments.storage)


def _job(arguments: argparse.Namespace, adapter: TrainedAdapter) -> Job:
    device, threads = choose_device(arguments)
    torch.set_num_threads(threads)
    runtime = Runtime(weights=files_by_digest(given_files(arguments)), device=device, threads=threads)
    return Job(
        adapter=adapter,
        segmenter=trained.merged(adapter, runtime).to(device),
        runtime=runtime,
        output=Output(
            folder=arguments.out,
            threshold=arguments.threshold or adapter.threshold,
            bits=arguments.probabilities,
            overlays=not arguments.no_overlays,
        ),
        finer=arguments.tiles,
        batch_size=arguments.batch_size,
        unchecked=arguments.unchecked,
    )


if __name__ == "__main__":
    raise SystemExit(main())
