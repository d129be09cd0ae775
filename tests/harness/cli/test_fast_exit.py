"""A brief command ends with its own status or error, and nothing is searched for garbage on the way or at the exit."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from harness.cli import fast_exit


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_it_ends_with_the_status_of_the_command_which_ran_without_searching() -> None:
    searching = []

    def main() -> int:
        searching.append(gc.isenabled())
        return 2

    assert fast_exit.run(main) == 2
    assert searching == [False]
    assert gc.get_freeze_count() > 0  # the search at the exit skips these


def test_an_error_of_the_command_goes_through() -> None:
    def main() -> int:
        raise SystemExit("wrong usage")

    with pytest.raises(SystemExit, match="wrong usage"):
        fast_exit.run(main)
    assert gc.get_freeze_count() > 0
