"""The source of a space belongs to a study's question: a rare branch, a helper, a constant, but not the layout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from harness.errors import OtherQuestion
from harness.experiments import declarations
from harness.experiments.source import definitions
from harness.experiments.space import fingerprint, typical_settings
from harness.record.study import Record, open_record

from ..conftest import QUESTION

SOURCE = '''"""Is a rare branch seen?"""
from dataclasses import replace
from harness.experiments.search import Search
from sam2lora.defaults import BASE
from search_spaces._shared import scaled

RARE = 1e-6
UNUSED = 1


def slow(rate):
    return scaled(rate)


def space(trial):
    lr = trial.suggest_float("lr", 0.0, 1.0)
    if lr < RARE:
        lr = slow(lr)
    return replace(BASE, optimizer=replace(BASE.optimizer, lr=lr + 1e-3))


SEARCH = Search(space, trials=3)
'''
SHARED = "FACTOR = 2\n\n\ndef scaled(rate):\n    return rate * FACTOR\n"
Defined = Callable[..., tuple[dict[str, str], str]]


@pytest.fixture
def defined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Defined]:
    """The definitions and the fingerprint of the space of a file, and of one that it imports."""
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)

    def forget() -> None:
        for name in ("rare", "_shared"):
            sys.modules.pop(f"search_spaces.{name}", None)

    def load(source: str = SOURCE, shared: str = SHARED) -> tuple[dict[str, str], str]:
        forget()
        (folder / "rare.py").write_text(source)
        (folder / "_shared.py").write_text(shared)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of one second and one length look the same
        space = declarations.search("rare").space
        return definitions(space), fingerprint(space)

    yield load
    forget()


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (
            "lr = slow(lr)",
            "lr = lr + 0",
            {"space", "slow", "search_spaces._shared.scaled", "search_spaces._shared.FACTOR"},
        ),
        ("RARE = 1e-6", "RARE = 2e-6", {"RARE"}),
        ("return scaled(rate)", "return -scaled(rate)", {"slow"}),
        ("FACTOR = 2", "FACTOR = 3", {"search_spaces._shared.FACTOR"}),
        ("rate * FACTOR", "rate / FACTOR", {"search_spaces._shared.scaled"}),
        ("UNUSED = 1", "UNUSED = 2", set()),
        ("trials=3", "trials=30", set()),
        ("(trial):\n", '(trial):\n    """A space."""\n\n    # Rarely.\n', set()),
        ("lr < RARE", "(lr <\n            RARE)", set()),
    ],
)
def test_what_a_space_names_is_seen_where_no_draw_meets_it(
    defined: Defined, old: str, new: str, names: set[str]
) -> None:
    before, drawn = defined()
    after, drawn_again = defined(SOURCE.replace(old, new), SHARED.replace(old, new))
    assert changed(before, after) == names
    assert drawn == drawn_again, "the draws do not meet it"


def test_a_lambda_and_a_function_made_by_another_have_a_source(defined: Defined) -> None:
    made = SOURCE.replace("def space(trial):", "def make():\n  def space(trial):").replace(
        "SEARCH = Search(space,", "  return space\n\nSEARCH = Search(make(),"
    )
    made = made.replace("    lr = trial", "      lr = trial").replace("    if lr", "      if lr")
    made = made.replace("        lr = slow", "          lr = slow").replace(
        "    return replace", "      return replace"
    )
    assert {"make", "slow", "RARE"} <= defined(made)[0].keys()
    short = SOURCE.replace("Search(space,", "Search(lambda trial: space(trial),")
    assert {"<lambda>", "space", "slow", "RARE"} <= defined(short)[0].keys()
    assert definitions(typical_settings) == {}, "that of the harness has versions"


def test_a_study_from_before_the_source_was_recorded_goes_on_and_keeps_to_it_from_then_on(record: Record) -> None:
    def opened(source: dict[str, str]) -> Record:
        asked = {**QUESTION, "source": source}
        return open_record(record.storage_url, "study", record.out, asked, RandomSampler())

    assert opened({"space": "1", "RARE": "1"}).attributes["question"]["source"] == {"space": "1", "RARE": "1"}
    with pytest.raises(OtherQuestion, match=r"differs:\n  source\.RARE: recorded 1; now 2\n") as refusal:
        opened({"space": "1", "RARE": "2"})
    assert "source.space" not in str(refusal.value)
