"""Faults on real runs, for minutes: every test in this folder is one of ``make test-faults`` and of no other run.

What they found ends as a table on the terminal, the one of ``docs/reliability.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from .study import Study

FOLDER = Path(__file__).parent
COLUMNS = ("fault", "tries", "survived", "lost", "repeated", "what the user saw")

Fault = Callable[..., AbstractContextManager[Study]]


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m leaves out
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(1800))  # minutes, on a machine that does other work as well


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Study:
    """The study without a fault."""
    study = Study(tmp_path_factory.mktemp("whole") / "study", cache)
    study.finish()
    assert study.differences() == []
    assert study.repeated() == 0
    return study


@pytest.fixture
def fault(tmp_path: Path, cache: Path, whole: Study, record_property: Callable[[str, object], None]) -> Fault:
    """``with fault(name, tries) as study``: a study that must have been brought to its end within the block.

    Then nothing may be lost, repeated, open, or differ between its stores. What was found is a line of the table.
    """

    @contextmanager
    def survives(name: str, tries: int = 1, **options: Any) -> Iterator[Study]:
        study = Study(tmp_path / "study", options.pop("cache", cache), **options)
        row: dict[str, Any] = {"fault": name, "tries": tries, "survived": 0, "lost": 0, "repeated": 0, "said": []}
        try:
            yield study
            lost, row["repeated"], differences = study.lost(whole), study.repeated(), study.differences()
            row["lost"] = len(lost)
            row["survived"] = 0 if lost or row["repeated"] or differences else tries
            assert differences == []
            assert lost == []
            assert row["repeated"] == 0
        finally:
            record_property("fault", row | {"said": list(dict.fromkeys(study.said))})

    return survives


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table: a line for each fault, over all tests of it."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [value for report in reports for name, value in getattr(report, "user_properties", []) if name == "fault"]
    by_fault: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_fault.setdefault(row["fault"], []).append(row)
    if not by_fault:
        return
    terminalreporter.section("faults")
    terminalreporter.line(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name, group in by_fault.items():
        numbers = [str(sum(row[column] for row in group)) for column in ("tries", "survived", "lost", "repeated")]
        said = dict.fromkeys(text.replace("|", "\\|") for row in group for text in row["said"])
        terminalreporter.line(f"| {' | '.join((name, *numbers, '<br>'.join(said) or 'nothing'))} |")
