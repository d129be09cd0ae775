"""What a change of structure must leave as it is: help texts, demo reports, and training bit for bit.

A part of the record is a folder of texts. Commands make them in processes of their own, which see nothing of the
caller's environment but ``PATH`` and ``HOME``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).parent / "recorded"
WIDTH = "100"
"""Columns of the terminal that help and reports are written for."""
COMMANDS = (
    "harness.ablate",
    "harness.demo",
    "harness.doctor",
    "harness.replay",
    "harness.report",
    "harness.search",
    "harness.ui",
    "sam2lora.checkpoints",
    "sam2lora.datasets",
    "sam2lora.datasets.splits",
    "sam2lora.export",
    "sam2lora.predict",
    "sam2lora.pretrain",
    "sam2lora.train",
)
DEMOS = {"loss_components": "loss_components", "tuned": "loss_components/tuned"}
"""Demonstrations, and the folder of the study that each reports."""

Texts = dict[str, str]
"""The texts of a part by file name."""


def helps() -> Texts:
    """The help of every command."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = pool.map(lambda command: _printed(Path.cwd(), command, "--help"), COMMANDS)
        return {f"{command}.txt": text for command, text in zip(COMMANDS, texts, strict=True)}


def reports() -> Texts:
    """What each demonstration prints, with its verdicts, its report, and digests of the report as HTML and LaTeX."""
    chosen = {"txt": "printed", "md": "report.md"}
    texts = {f"{name}.{end}": files[file].decode() for name, files in _demos().items() for end, file in chosen.items()}
    return texts | {"digests.txt": _digests(".html", ".tex")}


def bits() -> Texts:
    """What has other last digits on another processor: short trials, digests of the reports' numbers and figures."""
    with tempfile.TemporaryDirectory() as folder:
        trials = _printed(Path(folder), "tests.golden.trials")
    return {"trials.json": trials, "digests.txt": _digests(".csv", ".png", ".svg")}


PARTS: Mapping[str, Callable[[], Texts]] = {"help": helps, "reports": reports, "bits": bits}


@cache
def _demos() -> Mapping[str, Mapping[str, bytes]]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(DEMOS, pool.map(_demo, DEMOS), strict=True))


def _digests(*endings: str) -> str:
    """A line for each file of the reports that has one of ``endings``."""
    return "".join(
        f"{name}/{file} {hashlib.sha256(content).hexdigest()[:16]}\n"
        for name, files in _demos().items()
        for file, content in files.items()
        if file.endswith(endings)
    )


def _demo(name: str) -> Mapping[str, bytes]:
    """What a demonstration prints and all files of its report, without versions."""
    with tempfile.TemporaryDirectory() as folder:
        printed = _printed(Path(folder), "harness.demo", name)
        out = Path(folder) / "runs" / "demo"
        versions = _versions(out / "optuna.db")
        files = sorted((out / DEMOS[name] / "report").iterdir())
        return {"printed": printed.encode()} | {path.name: _without(versions, path) for path in files}


def _versions(record: Path) -> re.Pattern[str]:
    """All that the provenance of a record's studies says of packages, interpreter and commit."""
    with closing(sqlite3.connect(record)) as database:
        rows = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'provenance'").fetchall()
    said = {value for (row,) in rows for name, value in json.loads(row).items() if name not in ("command", "simulated")}
    return re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, sorted(said, key=len, reverse=True)))})(?![\w.])")


def _without(versions: re.Pattern[str], path: Path) -> bytes:
    """A file's content, without versions and, in a page, without the pictures that lie beside it as well."""
    if path.suffix == ".png":
        return path.read_bytes()
    text = re.sub(r'"data:image/[^"]*"', '""', path.read_text(encoding="utf-8"))
    return versions.sub("VERSION", text).encode()


def _printed(folder: Path, module: str, *arguments: str) -> str:
    """What ``python -m module`` prints in ``folder``, with one thread and without a GPU."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    fixed = {
        "COLUMNS": WIDTH,
        "CUDA_VISIBLE_DEVICES": "",
        "MKL_CBWR": "AUTO,STRICT",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "SAM2LORA_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=kept | fixed, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(f"python -m {module} ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def read(folder: Path) -> Texts:
    """The texts of a recorded part; none if there is no such folder."""
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")}


def write(texts: Texts, folder: Path) -> None:
    """Record a part anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def differences(part: str, recorded: Texts, made: Texts) -> Iterator[str]:
    """The lines of a unified diff without context, over all texts of ``part``."""
    for name in sorted(recorded.keys() | made.keys()):
        before, now = (texts.get(name, "").splitlines(keepends=True) for texts in (recorded, made))
        yield from difflib.unified_diff(before, now, f"recorded {part}/{name}", f"now {part}/{name}", n=0)
