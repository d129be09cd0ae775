"""Faults on real runs, for minutes: every test in this folder is one of ``make test-faults`` and of no other run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m leaves out
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.faults)
