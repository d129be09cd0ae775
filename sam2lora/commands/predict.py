"""``python -m sam2lora.predict``: masks of photographs from a trained adapter."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from scipy.special import expit

from sam2lora import tuned
from sam2lora.commands.options import INTERRUPTED, add_adapter, add_machine, machine, positive, refuse
from sam2lora.commands.parser import Parser
from sam2lora.commands.photographs import RESULTS, SETTINGS, Photographs, found
from sam2lora.datasets.eye import why_no_fundus
from sam2lora.datasets.listing import summary
from sam2lora.datasets.pairs import Pixels, failure
from sam2lora.datasets.reading import read_photograph
from sam2lora.errors import DataError, OutOfMemory, Sam2LoraError
from sam2lora.memory import is_out_of_memory
from sam2lora.model import Segmenter
from sam2lora.predict import overlay
from sam2lora.runtime import Runtime
from sam2lora.tiles import Logits, View, logits_of, view
from sam2lora.train import precision, write_atomically
from sam2lora.tuned import Tuned

FAILED = 1
TABLE = "images.csv"
COLUMNS = (
    "image", "file", "sha256", "width", "height", "pixels_per_field", "field_pixels", "area_pixels", "area_share",
    "confidence", "seconds",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line of the prediction."""
    command = Parser(
        prog="python -m sam2lora.predict",
        description="Segment photographs with a trained adapter. Writes DIR/masks (0 and 255, as large as the image), "
        "DIR/overlays, DIR/probabilities if asked for, and DIR/images.csv: per image its sha256, its size, the pixels "
        "that the field of view was resized to, the pixels of the field of view and of the structure, their share, the "
        "mean over the field of view of the probability of what was predicted, and seconds. Subfolders are entered, "
        "and results lie in folders of the same names. An image that an EXIF tag turns is turned, and so are its "
        "results. What is there already is left out, so the same command goes on after an interruption.",
        epilog="Exit status: 0, 1 if an image could not be used, 2 if nothing could be done.",
    )
    command.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="8-bit colour images, and folders of them"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add_adapter(command)
    output = command.add_argument_group("the output")
    output.add_argument(
        "--probabilities",
        type=int,
        choices=(8, 16),
        metavar="BITS",
        help="also as PNG of 8 or 16 bits, 0 to their maximum",
    )
    output.add_argument("--no-overlays", action="store_true", help="leave the overlays out")
    output.add_argument(
        "--threshold", type=_probability, metavar="P", help="a pixel is predicted above this (default: the adapter's)"
    )
    output.add_argument("--overwrite", action="store_true", help="predict again what is there already")
    command.add_argument(
        "--unchecked",
        action="store_true",
        help="segment pictures, too, that show no fundus in colour: black, white or flat ones, strips, other colours, "
        "and what is grey in part and has no lit disc (default: refuse them)",
    )
    command.add_argument(
        "--tiles",
        type=_finer,
        default=1.0,
        metavar="K",
        help="resize the field of view to K times the pixels that the model was trained with, at most the image's own, "
        "and predict overlapping tiles: thin structures are resolved, but all look up to K times wider than in "
        "training (default: 1, the whole field of view as in training)",
    )
    group = add_machine(command)
    group.add_argument(
        "--batch-size", type=positive, default=4, metavar="N", help="images or tiles at once (default: 4)"
    )
    return command


@dataclass
class Job:
    """A prediction in progress: what predicts, where to, how, and how many images came to which end.

    ``borderless``: the images in which no dark border stands out, so that all of each was its field of view.
    """

    tuned: Tuned
    segmenter: Segmenter
    runtime: Runtime
    out: Path
    finer: float
    batch_size: int
    threshold: float
    bits: int | None
    overlays: bool
    unchecked: bool
    borderless: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("written", "there already", "failed"), 0))


@dataclass(frozen=True)
class Opened:
    """An image on its way through the model: the name of its results, its file, and what the model sees of it.

    ``contents``: sha256 of the file.
    """

    name: str
    file: Path
    contents: str
    image: Pixels
    seen: View
    seconds: float


def run(job: Job, files: Mapping[str, Path], console: Console) -> None:
    """Predict ``files``, count what became of them in ``job.counts``, and name every file that could not be used."""
    group = job.batch_size if job.finer == 1 else 1  # the tiles of one image fill batches of their own
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
        begun = time.perf_counter()
        try:
            image, contents = read_photograph(file), _contents(file)
            if not job.unchecked and (why := why_no_fundus(image)) is not None:
                remedy = "leave it out, or segment it all the same with --unchecked"
                raise failure(file, "a photograph must show a fundus in colour", why, remedy)
            seen = view(image, job.segmenter.image_size, job.finer)
            yield Opened(name, file, contents, image, seen, time.perf_counter() - begun)
        except DataError as error:
            _fail(job, error, console)


def _fail(job: Job, error: DataError, console: Console) -> None:
    job.counts["failed"] += 1
    console.print(f"[bold red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)


def _predict(job: Job, opened: Sequence[Opened]) -> None:
    begun = time.perf_counter()
    frames = np.concatenate([one.seen.frames for one in opened])
    with precision(job.tuned.config, job.runtime):
        logits = logits_of(job.segmenter, frames, job.runtime.device, job.batch_size)
    share, done = (time.perf_counter() - begun) / len(opened), 0
    for one in opened:
        begun = time.perf_counter()
        own = one.seen.joined(logits[done : done + len(one.seen.frames)])
        done += len(one.seen.frames)
        row = _write(job, one, own)
        elapsed = one.seconds + share + time.perf_counter() - begun
        _append(
            job.out / TABLE,
            {"image": one.name, "file": str(one.file), "sha256": one.contents, **row, "seconds": round(elapsed, 3)},
        )
        job.counts["written"] += 1
        if one.seen.native.fov.all():
            job.borderless.append(one.name)


def _write(job: Job, one: Opened, logits: Logits) -> dict[str, Any]:
    """Write the pictures of one image, its mask last; what the table says of it."""
    image, fov = one.image, one.seen.native.fov
    mask = (logits > math.log(job.threshold / (1 - job.threshold))) & fov
    probability = expit(logits)
    if job.bits is not None:
        levels = np.where(fov, np.rint(probability * (2**job.bits - 1)), 0)
        _save(job.out / "probabilities" / f"{one.name}.png", levels.astype(np.uint8 if job.bits == 8 else np.uint16))
    if job.overlays:
        _save(job.out / "overlays" / f"{one.name}.png", overlay(image, mask))
    _save(job.out / "masks" / f"{one.name}.png", mask * np.uint8(255))
    pixels, area = int(fov.sum()), int(mask.sum())
    sure = np.where(mask, probability, 1 - probability)[fov]
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "pixels_per_field": one.seen.side,
        "field_pixels": pixels,
        "area_pixels": area,
        "area_share": round(area / pixels, 6) if pixels else math.nan,
        "confidence": round(float(sure.mean()), 6) if pixels else math.nan,
    }


def _save(path: Path, pixels: NDArray[Any]) -> None:
    picture = Image.fromarray(pixels)
    write_atomically(path, lambda draft: picture.save(draft, format="PNG"))


def _append(table: Path, row: dict[str, Any]) -> None:
    fresh = not table.exists()
    with table.open("a", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def claim(out: Path, settings: dict[str, Any], files: Mapping[str, Path], overwrite: bool) -> dict[str, Path]:
    """Make ``out`` ready for ``files`` and give those that are still to be predicted.

    Rows that are cut, or whose mask is gone, are taken out of the table. Raises ``DataError``, and changes nothing,
    when something else lies there, predictions with other settings, or a mask of another photograph of the same name:
    of another file, or of one whose contents have changed since.
    """
    rows, known = _rows(out / TABLE), out / SETTINGS
    if not known.exists() and (taken := [name for name in (*RESULTS, TABLE) if (out / name).exists()]):
        raise DataError(
            f"Predictions need a folder of their own, but {out} holds {taken[0]} of something else: name another."
        )
    names = {name: str(file) for name, file in files.items()}
    kept = [row for row in rows if _is_whole(out, row) and not (overwrite and row["image"] in names)]
    before = _settings(known) if known.exists() else settings
    if before != settings and (kept or not overwrite):
        differ = ", ".join(sorted(name for name in settings if before.get(name) != settings[name]))
        raise DataError(
            f"A folder holds predictions of one adapter with one set of settings, but those in {out} differ in "
            f"{differ}: name another folder with --out, or predict all of its images again with --overwrite."
        )
    if clash := [row for row in kept if names.get(row["image"], row["file"]) != row["file"]]:
        raise DataError(
            f"{out} holds a mask of {clash[0]['file']}, so {names[clash[0]['image']]}, of the same name, needs another "
            f"folder: name one with --out, or replace the mask with --overwrite."
        )
    if changed := [row for row in kept if row["image"] in files and _contents(files[row["image"]]) != row["sha256"]]:
        raise DataError(
            f"{out} holds a mask of {changed[0]['file']}, whose contents have changed since: replace it with "
            f"--overwrite, or name another folder with --out."
        )
    write_atomically(known, lambda path: path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n"))
    if len(kept) < len(rows):
        (out / TABLE).unlink()
        for row in kept:
            _append(out / TABLE, row)
    there = {row["image"] for row in kept}
    return {name: file for name, file in files.items() if name not in there}


def _rows(table: Path) -> list[dict[str, Any]]:
    if not table.exists():
        return []
    with table.open(newline="") as opened:
        lines = csv.DictReader(opened)
        if tuple(lines.fieldnames or ()) not in ((), COLUMNS):
            raise DataError(
                f"{table}: the columns must be {','.join(COLUMNS)}, but they are {','.join(lines.fieldnames or ())}: "
                f"name another folder with --out."
            )
        return list(lines)


def _is_whole(out: Path, row: Mapping[str, Any]) -> bool:
    """Whether a row is all there, and its mask too."""
    return None not in row.values() and (out / "masks" / f"{row['image']}.png").exists()


def _settings(known: Path) -> dict[str, Any]:
    try:
        before: dict[str, Any] = json.loads(known.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{known} must be as it was written, but {error}: name another folder with --out.") from error
    return before


def _contents(file: Path) -> str:
    """The sha256 of a file; nothing where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Predict from the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        photographs, adapter = _named(arguments)
        files = photographs.files
        job = _job(arguments, adapter)
        settings = {
            "adapter": job.tuned.digest,
            "tiles": job.finer,
            "threshold": job.threshold,
            "probabilities": job.bits,
            "overlays": job.overlays,
        }
        wanted = claim(job.out, settings, files, arguments.overwrite)
        job.counts["there already"] = len(files) - len(wanted)
        if job.tuned.config.test_prompt.oracle:
            console.print(
                "The adapter was judged with prompts; new images have none, so expect worse.", highlight=False
            )
        for closed in photographs.closed:
            _fail(job, closed, console)
        run(job, wanted, console)
    except (Sam2LoraError, ValueError) as error:
        return refuse(console, error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return refuse(console, OutOfMemory(f"A batch must fit into memory, but {error}: lower --batch-size."))
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to go on.")
        return INTERRUPTED
    if job.borderless:
        some = ", ".join(job.borderless[:5]) + (" and others" if len(job.borderless) > 5 else "")
        console.print(
            f"{len(job.borderless)} without a dark border, so all of each was taken for its field of view (right for "
            f"pictures of the disc alone): {escape(some)}",
            highlight=False,
            soft_wrap=True,
        )
    if photographs.left_out:
        console.print(f"left out of the folders: {escape(summary(photographs.left_out))}", highlight=False)
    counts = ", ".join(f"{count} {what}" for what, count in job.counts.items())
    console.print(f"{len(files)} images: {counts}. Results: {escape(str(job.out))}", highlight=False, soft_wrap=True)
    return FAILED if job.counts["failed"] else 0


def _named(arguments: argparse.Namespace) -> tuple[Photographs, Tuned]:
    """The images and the adapter that a command line names; one error for both where both are wrong."""
    try:
        photographs = found(arguments.images)
    except DataError as images:
        try:
            tuned.find(arguments.adapter, arguments.runs, arguments.storage)
        except Sam2LoraError as adapter:
            raise DataError(f"{images}\n{adapter}") from adapter
        raise
    return photographs, tuned.find(arguments.adapter, arguments.runs, arguments.storage)


def _job(arguments: argparse.Namespace, adapter: Tuned) -> Job:
    device, threads = machine(arguments)
    torch.set_num_threads(threads)
    runtime = Runtime(checkpoint=arguments.checkpoint, device=device, threads=threads)
    return Job(
        tuned=adapter,
        segmenter=tuned.merged(adapter, runtime).to(device),
        runtime=runtime,
        out=arguments.out,
        finer=arguments.tiles,
        batch_size=arguments.batch_size,
        threshold=arguments.threshold or adapter.threshold,
        bits=arguments.probabilities,
        overlays=not arguments.no_overlays,
        unchecked=arguments.unchecked,
    )


def _number(fits: Callable[[float], bool], rule: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, but is {text!r}")
        return value

    return read


_finer = _number(lambda value: 1 <= value < math.inf, "a number of 1 or more")
_probability = _number(lambda value: 0 < value < 1, "a number between 0 and 1")
