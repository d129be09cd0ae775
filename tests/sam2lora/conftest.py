"""What tests of files share."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Nothing below the folder that is given can be changed from then on. Permissions alone would not stop root."""

    def protect(folder: Path) -> None:
        def refuse(path: Any) -> None:
            if Path(path).is_relative_to(folder):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        def protected(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *arguments: Any, **options: Any) -> Any:
                refuse(path)
                return function(path, *arguments, **options)

            return call

        for name in ("utime", "unlink", "rename", "replace"):
            monkeypatch.setattr(os, name, protected(getattr(os, name)))
        mkdir, opened, low = os.mkdir, io.open, os.open

        def make(path: Any, *arguments: Any, **options: Any) -> None:
            if not Path(path).exists():  # otherwise it says so first
                refuse(path)
            mkdir(path, *arguments, **options)

        def wide(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                refuse(path)
            return opened(path, mode, *arguments, **options)

        def narrow(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                refuse(path)
            return low(path, flags, *arguments, **options)

        monkeypatch.setattr(os, "mkdir", make)
        monkeypatch.setattr(io, "open", wide)
        monkeypatch.setattr(os, "open", narrow)

    return protect
