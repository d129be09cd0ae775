from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tracking.spans import from_text, to_text


@given(st.sets(st.integers(0, 300)), st.integers(0, 100))
def test_a_text_is_of_the_numbers_that_it_has_room_for(numbers: set[int], limit: int) -> None:
    assert from_text(to_text(numbers, 10**6)) == numbers
    cut = to_text(numbers, limit)
    assert len(cut) <= limit
    kept = from_text(cut)
    assert kept <= numbers
    assert kept == {number for number in numbers if number <= max(kept, default=-1)}, "the lowest"


def test_ten_thousand_in_a_row_are_a_few_characters() -> None:
    assert to_text(set(range(10_000)) - {7}, 5000) == "0-6,8-9999"


@pytest.mark.parametrize("text", ["", "0", "3-", "a-b", "0-3;5-6", "0-3,", "-1-3"])
def test_what_a_person_wrote_lists_nothing(text: str) -> None:
    assert from_text(text) == set()
