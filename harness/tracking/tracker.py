"""Trackers, which show a study while it runs: their protocol and what they show. Loads no tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.record.study import Record
from harness.record.trials import RecordedTrial

BEST_TRIAL = "best_trial"
"""The tag of a search that has the number of its best trial."""


@dataclass(frozen=True)
class Material:
    """A data set as a tracker shows it: ``context`` is training (a source) or testing (a target)."""

    name: str
    digest: str
    source: str
    context: str
    images: int


@dataclass(frozen=True)
class Conclusion:
    """A finished study in short, for where studies are compared.

    ``summary``: its finite numbers by name; ``note``: its result in plain words; ``folder``: its report's. ``front``:
    the numbers of the trials on the Pareto front of a search with several objectives. ``tags``: what marks the study,
    such as an ablation's verdicts, and the number of a search's best trial (`BEST_TRIAL`).
    """

    summary: Mapping[str, float]
    note: str
    folder: Path
    front: tuple[int, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenHint:
    """How a report tells a person to open a tracker.

    ``tracker``: its name; ``text``: where the study is found in it; ``command``: what opens it in a shell.
    """

    tracker: str
    text: str
    command: str


class Listener(Protocol):
    """Follows the trials of a run, as a tracker and the live table do; each call comes after the record is written."""

    def began(self, trial: RecordedTrial) -> None:
        """A trial starts, or resumes what an earlier run left open."""

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        """A trial ended an epoch; ``entry``: what its curve gained."""

    def warned(self, trial: RecordedTrial, text: str) -> None:
        """Something about a trial that a person should know, as a sentence."""

    def ended(self, trial: RecordedTrial) -> None:
        """A trial ended."""


class Tracker(Listener, Protocol):
    """Shows one study; a view of its record, from which everything can be written again."""

    def wait(self) -> str:
        """Block until trials may begin, and return what a person should know, if anything, as sentences.

        Raises ``TrackingError`` where the tracker cannot be used.
        """

    def close(self, conclusion: Conclusion | None) -> None:
        """Show all that is missing, then how the study concluded, None where it was interrupted.

        Raises ``TrackingError`` where the tracker cannot be used any more: the record has everything.
        """


class Tracking(Protocol):
    """A tracker that can be opened: which one, and where."""

    @property
    def address(self) -> str:
        """Where it is."""

    def hint(self, study: str) -> OpenHint:
        """How a person opens it at ``study``."""

    def open(self, record: Record, question: Mapping[str, Any], materials: Sequence[Material]) -> Tracker:
        """The tracker of a study, which may still be starting: `Tracker.wait`."""
