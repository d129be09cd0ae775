"""Whatever a file holds, its reader takes it or says in a message of this project what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage import readers, try_damaged

READERS = readers()
EACH = 60


@pytest.mark.parametrize("kind", READERS)
def test_a_sound_file_is_read(kind: str, tmp_path: Path) -> None:
    for content in READERS[kind].sound:
        (tmp_path / READERS[kind].name).write_bytes(content)
        READERS[kind].read(tmp_path / READERS[kind].name)


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_file_is_read_or_refused_in_our_words(kind: str, tmp_path: Path) -> None:
    assert try_damaged(READERS[kind], EACH, tmp_path) or kind == "journal", "no damage was noticed"
