"""The server of a group: its script with a program in MLflow's place, and the composition as a document."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parent.parent / "mlflow"
SECRETS = ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY")


def start(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the script starts instead of MLflow: its arguments in the first line, then its variables."""
    program = tmp_path / "mlflow"
    program.write_text('#!/bin/sh\necho "$@"\nenv\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    return subprocess.run(["sh", FOLDER / "server.sh"], env=environment, capture_output=True, text=True, check=False)


def test_secrets_are_read_from_files_and_are_no_arguments(tmp_path: Path) -> None:
    for name in SECRETS:
        (tmp_path / name).write_text(f"secret of {name}\n")
    ran = start(tmp_path, MLFLOW_HOST="0.0.0.0", **{f"{name}_FILE": str(tmp_path / name) for name in SECRETS})
    arguments, *variables = ran.stdout.splitlines()
    assert arguments == "server --app-name basic-auth"
    assert {f"{name}=secret of {name}" for name in SECRETS} <= set(variables)
    assert "MLFLOW_BACKEND_STORE_URI=sqlite:///runs/mlflow.db" in variables


@pytest.mark.parametrize(("host", "status"), [("0.0.0.0", 2), ("192.0.2.1", 2), ("localhost", 0), ("127.0.0.1", 0)])
def test_without_a_password_it_listens_on_this_machine_alone(tmp_path: Path, host: str, status: int) -> None:
    ran = start(tmp_path, MLFLOW_HOST=host)
    assert ran.returncode == status
    assert ("must ask for a password, but MLFLOW_HOST is" in ran.stderr) == bool(status)
    assert "basic-auth" not in ran.stdout


def test_a_secret_whose_file_is_missing_starts_nothing(tmp_path: Path) -> None:
    ran = start(tmp_path, PGPASSWORD_FILE=str(tmp_path / "none"))
    assert ran.returncode != 0
    assert ran.stdout == ""


def services() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert set(document["volumes"]) == {
        volume.split(":")[0] for one in document["services"].values() for volume in one.get("volumes", ())
    }
    asked = {secret for one in document["services"].values() for secret in one["secrets"]}
    assert set(document["secrets"]) == asked
    found: dict[str, Any] = document["services"]
    return found


def test_the_composition_holds_no_secret_and_shows_itself_to_this_machine_alone() -> None:
    for name, one in services().items():
        for variable, value in one.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert value.removeprefix("/run/secrets/") in one["secrets"]
            assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{name}: {variable} has a password in it"
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))
        assert set(one.get("depends_on", {})) <= set(services())


def test_drawn_secrets_are_those_of_the_composition_and_stay(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_text((FOLDER / "secrets.sh").read_text())
    drawn = []
    for _ in range(2):
        subprocess.run(["sh", script], check=True)
        drawn.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {secret for one in services().values() for secret in one["secrets"]}
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    store = yaml.safe_load(drawn[0]["store.json"])["identities"][0]["credentials"][0]
    assert store == {"accessKey": drawn[0]["store_key"], "secretKey": drawn[0]["store_secret"]}
