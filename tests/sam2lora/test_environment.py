"""Variables that are empty, and users without a home."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from harness.cli.options import carried_out
from harness.tracking.mlflow_tracking import default_tracking
from sam2lora import checkpoints
from sam2lora.environment import check_home, folder, set_defaults, unset_empty, variable
from sam2lora.errors import DiskError
from sam2lora.runtime import default_cache


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is a mere number, as in a container that was started with one."""

    def nobody(number: int) -> NoReturn:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SAM2LORA_CACHE", "SAM2LORA_CHECKPOINTS", "SAM2LORA_CHECKPOINTS_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        assert variable(name) is None
    assert default_cache() == tmp_path / ".cache" / "sam2lora"
    assert checkpoints.local_folder() == default_cache() / "checkpoints"
    assert default_tracking(tmp_path).startswith("sqlite:")
    set_defaults({"SAM2LORA_CACHE": "~/here", "HOME": "/elsewhere"})
    assert default_cache() == tmp_path / "here", "a default takes the place of an empty value, and of no other"
    unset_empty("SAM2LORA_CHECKPOINTS", "HOME")
    assert "SAM2LORA_CHECKPOINTS" not in os.environ
    assert os.environ["HOME"] == str(tmp_path)


def test_an_empty_home_is_not_the_root_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("SAM2LORA_CACHE", raising=False)
    assert default_cache() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "sam2lora"


@pytest.mark.usefixtures("homeless")
def test_without_a_home_one_message_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SAM2LORA_CACHE", raising=False)
    monkeypatch.delenv("SAM2LORA_CHECKPOINTS", raising=False)
    with pytest.raises(DiskError, match=r"~/.cache/sam2lora is not: name another folder in \$SAM2LORA_CACHE"):
        default_cache()
    with pytest.raises(DiskError, match="set HOME to a folder that you can write"):
        check_home()
    assert folder("SAM2LORA_CACHE", "/data") == Path("/data"), "a folder that needs no home"
    assert checkpoints.main([]) == 2
    assert carried_out(lambda: pytest.fail("nothing is to run"), Console(stderr=True)) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: A folder that begins with ~ must be of a user who has a home folder")
    assert second.startswith("error: A command that runs trials must have a home folder")
