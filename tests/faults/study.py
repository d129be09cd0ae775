"""A study under test: the real command in processes of its own, on procedural images, and what it left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..stores import stored, stores_equal

ROOT = Path(__file__).parent.parent.parent
EPOCHS = 3
SPACE = f'''"""Does a tiny grid survive?"""
import optuna
from harness.experiments.search import Search
from harness.samplers import Grid
from harness.schedulers import Full
from sam2lora.adapters import LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer

def space(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        protocol=Transfer(
            sources=(Synthetic(hospital="alder", images=14, size=64),),
            targets=(Synthetic(hospital="cedar", images=4, size=64),),
        ),
        backbone=Nano(weights="random"),
        adapters=(LoRA(rank=trial.suggest_categorical("rank", (1, 2)), alpha=4.0),),
        optimizer=AdamW(lr=trial.suggest_categorical("lr", (1e-3, 3e-3))),
        augment=Flips(),
        image_size=64,
        epochs={EPOCHS},
    )

SEARCH = Search(space, trials=4, sampler=Grid(), scheduler=Full())
'''


@dataclass
class Running:
    """A command that runs, in a session of its own, and writes into ``log``."""

    process: subprocess.Popen[bytes]
    log: Path
    family: set[psutil.Process] = field(default_factory=set)

    def wait_for(self, condition: Callable[[], object], within: float = 600) -> bool:
        """Whether the condition came to hold while the command ran."""
        for _ in range(int(within / 0.05)):
            if condition():
                return self.process.poll() is None
            if not self.pause(0.05):
                return False
        raise AssertionError(f"for {within} s nothing happened:\n{self.output()}")

    def pause(self, seconds: float) -> bool:
        """Whether the command still runs after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=seconds)
        return self.process.returncode is None

    def kill(self, number: int = signal.SIGKILL) -> int:
        """The exit status after a signal to this process alone."""
        with suppress(psutil.NoSuchProcess):
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        self.process.send_signal(number)
        return self.process.wait()

    def workers(self, name: str) -> list[psutil.Process]:
        """The processes of Ray's that run the actor ``name``."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{name}"):
                    found.append(process)
        return found

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def end(self) -> tuple[int, str]:
        """The exit status and all that it printed, once it has ended by itself."""
        return self.process.wait(), self.output()


@dataclass
class Study:
    """The study ``tiny`` in a folder of its own; the same command continues it. ``environment``: for its processes."""

    folder: Path
    cache: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tracking: str | None = None
    space: str = SPACE
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "search_spaces").mkdir(parents=True)
        (self.folder / "search_spaces" / "tiny.py").write_text(self.space)

    @property
    def out(self) -> Path:
        return self.folder / "runs"

    @contextmanager
    def started(self) -> Iterator[Running]:
        """The command while it runs; it and all its processes are killed at the end."""
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment |= {
            "SAM2LORA_CACHE": str(self.cache),
            "PYTHONPATH": f"{Path(__file__).parent / 'watch'}:{ROOT}",
            "FAULTS_EPOCHS": str(self.folder / "epochs.log"),
            "COLUMNS": "1000",
            "PYTHONDONTWRITEBYTECODE": "",
            **({} if self.tracking is None else {"MLFLOW_TRACKING_URI": self.tracking}),
            **self.environment,
        }
        log = self.folder / f"output{len(list(self.folder.glob('output*')))}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.search", "tiny", *self.arguments],
                cwd=self.folder, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
            )  # fmt: skip
        running = Running(process, log)
        try:
            yield running
        finally:
            if process.poll() is None:
                running.kill()
            for left in running.family:
                with suppress(psutil.NoSuchProcess):
                    left.kill()
            self.said += messages(running.output(), self.folder)

    def run(self) -> tuple[int, str]:
        """Run the command to its end."""
        with self.started() as running:
            return running.end()

    def finish(self, runs: int = 1) -> str:
        """Run the same command until it ends well, at most so many times; all that the last one printed."""
        for _ in range(runs):
            status, output = self.run()
            if status == 0:
                return output
        raise AssertionError(f"the command ended with {status}:\n{output}")

    def trained(self) -> list[tuple[str, int]]:
        """Key and process of every epoch that was trained to its checkpoint, in their order."""
        log = self.folder / "epochs.log"
        pairs = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(key, int(process)) for key, process in pairs]

    def results(self) -> dict[str, tuple[str, list[float]]]:
        """Outcome and validation scores of every trial that stands, by its key."""
        kept = [trial.user_attrs for trial in stored(self.out, "tiny") if trial.state.name in ("COMPLETE", "PRUNED")]
        return {one["key"]: (one["outcome"]["kind"], [entry["score"] for entry in one["curve"]]) for one in kept}

    def lost(self, whole: Study) -> list[str]:
        """The trials of ``whole``, the same study without a fault, whose results are not the same here."""
        mine = self.results()
        return [key for key, result in whole.results().items() if mine.get(key) != result]

    def repeated(self) -> int:
        """How many epochs were trained again although their checkpoint had been written."""
        return sum(max(times - EPOCHS, 0) for times in Counter(key for key, _ in self.trained()).values())

    def differences(self) -> list[str]:
        """Where its stores differ, or say that something is open."""
        return stores_equal(self.out, "tiny", self.tracking)


def messages(output: str, folder: Path) -> list[str]:
    """What a command says about a fault: its errors, its warnings, its word on an interruption, and a line of Ray's."""
    lines = [re.sub(r"\s+", " ", line.replace(str(folder), ".")).strip() for line in output.splitlines()]
    told = [line for line in lines if re.match(r"(error|warning|Interrupted|Traceback)\b", line)]
    strange = [line for line in lines if re.match(r"(\[.*(\bE\b|ERROR|FATAL)|\(raylet\)|.*\[state-dump\])", line)]
    return told + strange[:1]
