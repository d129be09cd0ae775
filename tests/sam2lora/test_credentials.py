"""No secret of an address is shown, and a shown address can be used where a variable holds the secret."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from sam2lora.credentials import MASK, STORAGE, TRACKING, hide, masked, restored

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"postgresql://me:{SECRET}@host/db", "postgresql://me:***@host/db"),
        (f"postgresql+psycopg://me:{SECRET}/?@x@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        (f"http://me:{SECRET}@host:5000", "http://me:***@host:5000"),
        (f"https://{SECRET}@host/mlflow", "https://***@host/mlflow"),
        (f"https://host/?token={SECRET}&x={SECRET}", "https://host/?token=***&x=***"),
        (f"--storage=mysql://me:{SECRET}@host/db", "--storage=mysql://me:***@host/db"),
        (f"sqlite:////data/optuna.db?password={SECRET}", "sqlite:////data/optuna.db?password=***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////data/me@home/a:b/optuna.db", "sqlite:////data/me@home/a:b/optuna.db"),
        ("sqlite:////a:b/me@home/optuna.db", "sqlite:////a:b/me@home/optuna.db"),
        ("sqlite:///runs/optuna.db", "sqlite:///runs/optuna.db"),
        ("folder:path=/data/x?y=1", "folder:path=/data/x?y=1"),
    ],
)
def test_an_address_keeps_all_but_its_secrets(address: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert masked(address) == shown
    monkeypatch.setenv(STORAGE, address)
    assert hide(f"'{address}' is not there, nor is ({address}).") == f"'{shown}' is not there, nor is ({shown})."


@given(password=st.text(min_size=8, alphabet=st.characters(exclude_categories=("Cs",))))
def test_any_password_is_masked_as_the_library_masks_it(password: str) -> None:
    address = f"postgresql://me:{quote(password, safe='')}@host/db"
    assert masked(address) == make_url(address).render_as_string(hide_password=True)
    assert make_url(address).password == password
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["report", "--storage", address])
        assert hide(f"no {password} of {address}") == f"no {MASK} of postgresql://me:***@host/db"


def test_a_secret_is_masked_wherever_a_message_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACKING, f"http://me:{SECRET}%40@host?token=abcdefgh")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    assert hide(f"url: /?token=abcdefgh/api, {SECRET}@, a-token") == "url: /?token=***/api, ***, ***"
    assert hide("Results must be in /tmp/a?b=c.") == "Results must be in /tmp/a?b=c."


def test_a_masked_address_stands_for_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = f"postgresql://me:{SECRET}@host/db"
    assert restored(whole, STORAGE) == whole
    with pytest.raises(ValueError, match=r"must be that of \$SAM2LORA_STORAGE.*set SAM2LORA_STORAGE to the whole"):
        restored(masked(whole), STORAGE)
    monkeypatch.setenv(STORAGE, whole)
    assert restored(masked(whole), STORAGE) == whole
    with pytest.raises(ValueError, match="other"):
        restored("postgresql://me:***@other/db", STORAGE)


def test_an_error_that_nothing_catches_shows_no_secret() -> None:
    code = (
        "from sam2lora.cli.parser import Parser\n"
        "parser = Parser(); parser.add_argument('address')\n"
        "given = parser.parse_args().address\n"
        "raise LookupError(f'in {given}') from KeyError(given.partition('@')[0])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, f"postgresql://me:{SECRET}@host/db"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "LookupError: in postgresql://me:***@host/db" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
