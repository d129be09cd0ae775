"""Errors of the harness that a person can cause or fix: rule, value, remedy."""

from __future__ import annotations


class HarnessError(Exception):
    """Base of every error below. Commands print it as one message, without a traceback."""


class UnknownName(HarnessError):
    """No search has this name."""


class BadDeclaration(HarnessError):
    """The file of a search or an ablation cannot be read, or raises an error."""


class OtherQuestion(HarnessError):
    """A study of this name asks another question."""


class OtherFolder(HarnessError):
    """The files of this study lie in another folder."""


class StudyBusy(HarnessError):
    """Another process is running this study."""


class RecordError(HarnessError):
    """The record cannot be opened or written."""


class ClusterError(HarnessError):
    """Ray does not start, or the cluster that was named does not answer."""


class TrackingError(HarnessError):
    """MLflow cannot be reached or refuses what it is sent."""


class TooManyFailures(HarnessError):
    """Trials crash, or proposals are infeasible, one after the other, so that further ones would not help."""
