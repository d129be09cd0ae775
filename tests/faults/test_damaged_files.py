"""Twenty thousand damaged files of every kind that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage import readers, try_damaged

READERS = readers()
FILES = 20_000


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_refuses_in_our_words(kind: str, tmp_path: Path) -> None:
    try_damaged(READERS[kind], FILES // len(READERS), tmp_path)
