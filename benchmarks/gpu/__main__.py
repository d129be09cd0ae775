"""The command: see ``benchmarks.gpu``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from benchmarks import gpu
from benchmarks.gpu import device
from benchmarks.gpu.bench import FULL, SMALL, Bench, Form
from benchmarks.gpu.document import Document, Found, read, tables
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.process import Ended, results
from benchmarks.machine import machine
from sam2lora.errors import DiskError

_GRACE = 20.0
"""Seconds that a part has for the case that it is at when its time is over."""
_PRINTED = 4000
"""Characters that are kept of what a part prints."""
_WIDTH = 200
"""Columns of the tables in a file, which a terminal would not show at once."""
_SAMPLE = 5.0
"""Seconds between two looks at the clocks and the load of the device."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts, and say whether what must hold holds.

    0, or 1 if something does not, broke, or cannot be written; 130 if it was interrupted.
    """
    asked = _parser().parse_args(words)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    interrupted = False
    if asked.show is not None:
        document = asked.show
    else:
        try:
            document, interrupted = _measured(asked, console, _watch())
        except DiskError as error:
            console.print(str(error), style="bold red", markup=False)
            return 1
    for shown in tables(document):
        console.print(shown)
    if interrupted:
        console.print(f"Interrupted. What is known so far is in {asked.out}.")
        return 130
    return 0 if document.sound else 1


def _watch() -> Callable[[], None]:
    """A function that raises ``KeyboardInterrupt`` once the process was asked to end, and at no other place."""
    heard: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: heard.append(number))

    def check() -> None:
        if heard:
            raise KeyboardInterrupt

    return check


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=gpu.__doc__.partition("\n")[2] if gpu.__doc__ else ""
    )
    names = [part.name for part in PARTS]
    command.add_argument(
        "--parts", nargs="+", choices=names, default=names, metavar="PART",
        help=f"which parts run, in their order: {', '.join(names)} (default: all)",
    )  # fmt: skip
    command.add_argument(
        "--minutes", type=_minutes, metavar="M", help="time for all parts together (default 8, on a CPU 2)"
    )
    command.add_argument("--form", choices=("small", "full"), help="how much is measured (default: small on a CPU)")
    command.add_argument(
        "--out", type=_file, default=Path("benchmarks/results/gpu.json"), metavar="FILE",
        help="where the result grows, line by line (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--show", type=_document, metavar="FILE", help="print the tables of an earlier result, and no more"
    )
    return command


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, but is {text!r}") from error
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, but is {text}")
    return minutes


def _file(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_file():  # a device would be replaced by a file
        raise argparse.ArgumentTypeError(f"must be a file or not exist, but is {text}")
    return path


def _document(text: str) -> Document:
    try:
        document = read(Path(text))
        list(tables(document))
        return document
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(
            f"must be a result that this command wrote, but {text} is not: {error}"
        ) from error


def _measured(asked: argparse.Namespace, console: Console, check: Callable[[], None]) -> tuple[Document, bool]:
    """The document of a run, written after every line, and whether ``check`` has interrupted it."""
    begun = time.monotonic()
    about = _about()
    usable = about["gpu"] is not None
    form = {"small": SMALL, "full": FULL}[asked.form or ("full" if usable else "small")]
    form = form if asked.minutes is None else replace(form, minutes=asked.minutes)
    chosen = [part for part in PARTS if part.name in asked.parts]
    document = Document(
        {**about, "form": form.name, "minutes": form.minutes}, {part.name: Found(part.title) for part in chosen}
    )
    console.print(_headline(document, form))
    with tempfile.TemporaryDirectory() as folder:
        for place, part in enumerate(chosen):
            share = part.share / sum(other.share for other in chosen[place:])
            left = 60 * form.minutes - (time.monotonic() - begun)
            found = document.parts[part.name]
            try:
                _run(part, found, _bench(usable, form, Path(folder), share * left), document, asked.out, check)
            except KeyboardInterrupt:
                found.state, found.why = "cut", "it was interrupted"
                document.save(asked.out)
                return document, True
            console.print(_progress(place + 1, len(chosen), part, found), highlight=False)
    console.print(f"Written to {asked.out}.")
    return document, False


def _about() -> dict[str, Any]:
    """The machine and the GPU, looked up in a process of their own: one that forks must not touch the GPU."""
    found = next(results(lambda: [(device.describe(), machine())], 120.0))
    if isinstance(found, Ended):
        raise RuntimeError(f"The device must say what it is, but the process that asks it ended: {found.why}")
    described, computer = found
    if isinstance(described, device.NoGpu):
        return {"gpu": None, "no_gpu": described.why, "machine": computer}
    return {"gpu": described, "no_gpu": None, "machine": computer}


def _headline(document: Document, form: Form) -> str:
    about = document.about
    if about["gpu"] is None:
        where = (
            f"Torch can use no GPU here: {escape(about['no_gpu'].rstrip('.'))}. The {form.name} form runs on the CPU"
        )
    else:
        found = about["gpu"]
        where = (
            f"{escape(found['name'])}, {found['free_mib'] / 1024:.0f} of {found['memory_mib'] / 1024:.0f} GiB free, "
            f"driver {escape(found['driver'])}, torch {about['machine']['torch']}, CUDA {found['cuda']}. "
            f"The {form.name} form runs"
        )
        if found["others"] or found["load"].get("utilization.gpu", 0.0) > 5:
            where += (
                f". [bold]The device is in use by others[/] ({found['others']} processes, "
                f"{found['load'].get('utilization.gpu', 0.0):.0f} % busy): times are not those of a quiet one"
            )
    return f"{where}, {form.minutes:g} minutes at most, {len(document.parts)} of {len(PARTS)} parts."


def _bench(usable: bool, form: Form, folder: Path, seconds: float) -> Bench:
    return Bench("cuda:0" if usable else "cpu", form, folder, time.monotonic() + seconds)


def _run(part: Part, found: Found, bench: Bench, document: Document, out: Path, check: Callable[[], None]) -> None:
    """One part, from its process into the document."""
    if part.missing:
        found.state, found.why = "skipped", f"it needs {', '.join(part.missing)}, not installed here"
        document.save(out)
        return
    begun, log = time.monotonic(), bench.folder / f"{part.name}.log"
    log.touch()
    samples: list[dict[str, float]] = []
    looked = begun - _SAMPLE
    found.state = "running"
    document.save(out)

    def look() -> None:
        nonlocal looked
        check()
        if bench.cuda and time.monotonic() - looked >= _SAMPLE:
            looked = time.monotonic()
            samples.append(device.load())

    for line in results(lambda: part.measure(bench), bench.deadline + _GRACE - begun, log, look):
        if isinstance(line, Ended):
            found.state = "cut" if line.cut else "broken" if line.why else "ended"
            found.why = line.why or ""
        else:
            found.lines.append(line)
        found.seconds, found.load = time.monotonic() - begun, device.summary(samples)
        found.printed = log.read_text(errors="replace")[-_PRINTED:]
        document.save(out)


def _progress(place: int, count: int, part: Part, found: Found) -> str:
    """A line for a part that has ended."""
    state = found.state if found.sound else f"[bold red]{found.state}, not sound[/]"
    why = f" ({escape(found.reason)})" if found.why else ""
    return f"[{place}/{count}] {part.name}: {state}{why}, {len(found.lines)} lines, {found.seconds:.0f} s"


if __name__ == "__main__":
    raise SystemExit(main())
