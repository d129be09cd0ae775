"""Secrets in addresses of databases and servers: masked in whatever is shown or recorded, and restored when asked for.

An address is shown with ``***`` for its password and for the values of its query. The variable that holds the whole
address stands in for the mask, so that a command can be pasted as it is shown and shows no secret itself.
"""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType
from urllib.parse import quote, unquote

from sam2lora.environment import variable
from sam2lora.errors import AddressError

MASK = "***"
STORAGE, TRACKING = "SAM2LORA_STORAGE", "MLFLOW_TRACKING_URI"
"""The variables that hold the address of the record and that of MLflow."""
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ADDRESS = re.compile(r"""[A-Za-z][\w+.-]*://[^\s'"<>`]*[^\s'"<>`.,:)\]]""")
_QUERY = re.compile(r"(?<=[?&;])([^=&;]+)=([^&;]*)")
_SHORTEST = 6
"""The fewest characters of a secret that is looked for by itself: a shorter one is part of too many words."""


def masked(address: str) -> str:
    """``address``, or a word of a command that ends in one, with its secrets masked; any other text as it is."""
    scheme, login, at, place = _parts(address)
    user, colon, _ = login.partition(":")
    if not scheme:
        return address
    if colon:
        login = f"{user}:{MASK}"
    elif at and _is_token(scheme, login):
        login = MASK
    where, mark, query = place.partition("?")
    return f"{scheme}://{login}{at}{where}" + _QUERY.sub(rf"\1={MASK}", mark + query)


def hide(text: str) -> str:
    """``text`` with the secrets masked of all addresses in it.

    Those of the command line, and of the variables that hold any, are masked wherever they stand.
    """
    known = [*sys.argv, *filter(None, (variable(name) for name in (STORAGE, TRACKING)))]
    secrets = {secret for address in known for secret in _secrets(address)}
    secrets |= {value for value in map(variable, _SECRETS) if value is not None}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK) if len(secret) >= _SHORTEST else text
    return _ADDRESS.sub(lambda found: masked(found[0]), text)


def restored(address: str, name: str) -> str:
    """``address`` with its secrets; where they are masked, the variable ``name`` holds them, or ``AddressError``."""
    if MASK not in address:
        return address
    whole = variable(name)
    if whole is None or masked(whole) != address:
        raise AddressError(
            f"An address with {MASK} in it must be that of ${name}, which has the secret, but {address} is not: set "
            f"{name} to the whole address."
        )
    return whole


def hide_in_tracebacks() -> None:
    """Let errors that nothing catches be printed without secrets."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(hide("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)

    sys.excepthook = show


def _parts(address: str) -> tuple[str, str, str, str]:
    """Scheme, login, the sign after a login, and what follows; no scheme where ``address`` is none."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return "", "", "", address
    return (scheme, "", "", rest) if rest.startswith("/") else (scheme, *rest.rpartition("@"))


def _is_token(scheme: str, login: str) -> bool:
    """Whether what stands before the host, without a password, is a token: so it is for a web server."""
    return scheme.rpartition("=")[2] in ("http", "https") and "/" not in login


def _secrets(address: str) -> set[str]:
    scheme, login, _, place = _parts(address)
    _, colon, password = login.partition(":")
    found = [password if colon else login if _is_token(scheme, login) else ""]
    found += [value for _, value in _QUERY.findall(f"?{place.partition('?')[2]}")]
    return {form for secret in found for form in (secret, unquote(secret), quote(unquote(secret), safe=""))}
