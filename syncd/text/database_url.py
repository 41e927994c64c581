"""The URL of the database, `state.url`: a file, or a server that several services may share.

The kinds of databases themselves are the business of `syncd.store.db`.
"""

import re
from urllib.parse import unquote

DEFAULT = "sqlite:////var/lib/syncd/syncd.db"
"""The database of the unit that syncd ships."""

_FILE = "sqlite:///"
_SERVER = "postgresql://"
_IN_MEMORY = ("", ":memory:")
_SECRETS = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
"""Parameters of libpq that contain a secret."""


def url_of(file: object) -> str:
    """The URL of the database in a file, which is given as a text or a path."""
    return f"{_FILE}{file}"


def file_of(url: str) -> str | None:
    """The path of the file of the database; None for a server, and for a database in memory."""
    name = url.removeprefix(_FILE).partition("?")[0]
    return None if not url.startswith(_FILE) or name in _IN_MEMORY else name


def is_server(url: str) -> bool:
    """Whether the database is a server, which several services may share."""
    return url.startswith(_SERVER)


def problem_of(url: str) -> str | None:
    """Why the URL cannot be used, as the end of a sentence about `state.url`; None if it can."""
    if is_server(url) and url.isprintable() and " " not in url:
        if not _has_password(url):
            return None
        return (
            "must not contain a password. Use the secret database_password "
            "(SYNCD_DATABASE_PASSWORD) or a password file of PostgreSQL instead, and change "
            "the password, because others could read it here"
        )
    if re.fullmatch(r"sqlite:///[^?#]+", url) and url.isprintable():
        return None
    return (
        'must be "sqlite:///" and a file\'s path ("sqlite:////var/lib/…"), or '
        '"postgresql://user@host:5432/database"'
    )


def _has_password(url: str) -> bool:
    """Whether the URL of a server contains a password, in any place that libpq reads."""
    rest, _, query = url.removeprefix(_SERVER).partition("?")
    # A password that is not encoded may contain a slash: what is before the last @ is the user.
    user, at, _ = rest.rpartition("@")
    named = (unquote(part.partition("=")[0]).lower() for part in query.split("&"))
    return bool(at and ":" in user) or any(name in _SECRETS for name in named)
