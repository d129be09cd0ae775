"""What every command says of a command line that it cannot read."""

from __future__ import annotations

import runpy
import sys

import pytest

from sam2lora.cli.parser import Parser

COMMANDS = [
    *(f"harness.{name}" for name in ("search", "ablate", "report", "demo")),
    *(f"sam2lora.{name}" for name in ("train", "predict", "export", "datasets", "checkpoints", "pretrain")),
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = Parser()
    parser.add_argument("name")
    parser.add_argument("--sampler", choices=["tpe", "random", "cmaes"])
    parser.add_argument("--fold", type=int, choices=range(3))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["n", "--sampler", "rndom"],
         "argument --sampler: must be one of tpe, random, cmaes, but is 'rndom': did you mean 'random'?"),
        (["n", "--sampler", "bayes"], "argument --sampler: must be one of tpe, random, cmaes, but is 'bayes'."),
        (["n", "--fold", "3"], "argument --fold: must be one of 0, 1, 2, but is '3'."),
        (["n", "--smapler=tpe"], "unknown option '--smapler': did you mean '--sampler'?"),
        (["n", "m"], "unexpected argument 'm'."),
        ([], "the following arguments are required: name."),
    ],
)  # fmt: skip
def test_an_error_is_one_line_with_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert said(capsys, *arguments) == f"error: {message} --help lists the options.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_so(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [command, "--no-such-option"])
    monkeypatch.delitem(sys.modules, command, raising=False)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module(command, run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("--help lists the options.")
