"""Packages that only some addresses need, and how a missing one is installed."""

from __future__ import annotations

EXTRAS = {"psycopg": "postgres", "boto3": "s3", "botocore": "s3"}
"""The extra of this distribution that brings a package."""


def missing(error: BaseException | None) -> str | None:
    """What a person installs where ``error`` came of a package that is not there, as a sentence; else None."""
    while error is not None and not (isinstance(error, ImportError) and error.name):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    package = str(error.name).partition(".")[0]
    extra = EXTRAS.get(package)
    how = f"pip install -e '.[{extra}]' brings it" if extra else "install it"
    return f"The address needs the Python package {package}, which is not there: {how}."
