"""Configuration, environment and command line: any input is accepted or its problems are named."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from syncd.cli.commands.operate.run import since_of
from syncd.cli.main import app
from syncd.config.load import load
from syncd.config.model import Config, ConfigurationError, address
from syncd.text.timestamps import span_seconds
from tests.hostile.strategies import MARK, SECRETS, bent, hostile, texts
from tests.hostile.wire import NOW, assert_fit_to_be_shown

FILE: dict[str, Any] = {
    "stripe": {"api_base": "https://api.stripe.com", "account": "", "mode": "live", "read_budget": 10_000},
    "halo": {
        "url": "https://example.halopsa.com", "client_id": "id", "scope": "edit:invoices", "rate_limit": 300,
        "status": {"succeeded": 3, "payment_failed": 4, "processing": 5, "canceled": 6},
        "new_row": {"method": 1, "module_id": 2},
    },
    "poll": {"interval": "5m", "overlap": "10m", "sweep": "1d", "look_back": "1d"},
    "push": {"batch": 50, "create_missing": True, "invoice_metadata_key": "x", "on_amount_mismatch": "hold"},
    "state": {"url": "sqlite:////tmp/syncd.db"},
    "web": {"listen": "127.0.0.1:9464", "stale_after": "15m"},
}  # fmt: skip
KEYS = {
    "SYNCD_STRIPE_API_KEY": f"rk_live_{MARK}1234567890",
    "SYNCD_HALO_CLIENT_SECRET": f"{MARK}-1234567890",
}


def toml(value: Any) -> str:
    """Write a value as TOML, with inline tables only."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        body = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value)
        return f'"{body}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "''" if value is None else str(value)


def written(tables: dict[str, Any]) -> str:
    return "".join(f"{toml(str(name))} = {toml(value)}\n" for name, value in tables.items())


@contextmanager
def environment(**more: str) -> Iterator[None]:
    """Set these variables, and remove all other SYNCD_ variables."""
    saved = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith("SYNCD_")]:
            del os.environ[name]
        os.environ.update(more)
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def read(file: Path | None, **more: str) -> Config | None:
    """Load the configuration; return None if it is refused, after a check of the error texts."""
    with environment(**{**KEYS, **more}):
        try:
            return load(file, os.environ)
        except ConfigurationError as error:
            problems = error.problems
    assert problems
    for problem in problems:
        assert_fit_to_be_shown(problem)
        assert problem
    return None


def assert_usable(config: Config) -> None:
    """Check that the accepted configuration can be used."""
    assert config.halo.url.startswith(("https://", "http://"))
    assert config.poll.seconds is None or 1 <= config.poll.seconds <= 30 * 86_400
    assert all(abs(number) <= 2**31 for number in config.halo.status.numbers.values())
    assert config.state.url.isprintable()
    assert MARK not in repr(config)


@hostile(80)
@given(bent(FILE).map(written) | bent(FILE).flatmap(bent).map(written))
def test_bent_files(tmp_path: Path, text: str) -> None:
    """A file of almost the right shape is accepted and usable, or refused with its problems."""
    place = tmp_path / "config.toml"
    place.write_text(text, "utf-8")
    config = read(place)
    if config is not None:
        assert_usable(config)


def test_the_file_that_is_bent(tmp_path: Path) -> None:
    """The unmodified file is accepted; otherwise the test above could pass with refusals only."""
    place = tmp_path / "config.toml"
    place.write_text(written(FILE), "utf-8")
    assert read(place) is not None


@hostile(80)
@given(st.binary(max_size=100) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_garbage_files(tmp_path: Path, content: bytes) -> None:
    """A file of random bytes is refused."""
    place = tmp_path / "config.toml"
    place.write_bytes(content)
    assert read(place) is None


@pytest.mark.parametrize(
    "content",
    [
        "x = " + "[" * 5_000 + "]" * 5_000, ".".join("a" * 5_000) + " = 1", "x = " + "9" * 5_000,
        "x = {" + "a={" * 500 + "}" * 501, "[" + ".".join("a" * 5_000) + "]", "x = nan", '"" = 1', "\ufeff",
        "x = " + '"' + "y" * 2_000_000 + '"', "_env_file = '/etc/passwd'", "_cli_parse_args = true",
        '_env_prefix = "X"', "self = 1", "__pydantic_self__ = 1", "model_config = 1",
    ],
)  # fmt: skip
def test_files_made_to_hurt(tmp_path: Path, content: str) -> None:
    """Deep nesting, great length and names that the libraries use internally are refused."""
    place = tmp_path / "config.toml"
    place.write_text(f"{content}\n{written(FILE)}", "utf-8")
    assert read(place) is None


@pytest.mark.parametrize("place", ["/dev/zero", "/", "/nowhere/config.toml", "/etc/shadow/x"])
def test_files_that_are_none(place: str) -> None:
    """An endless file, a folder and a missing file are refused."""
    assert read(Path(place)) is None


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_in_the_file(tmp_path: Path, secret: str) -> None:
    """A secret in a wrong place (key, value or table) is refused and not repeated in the error."""
    place = tmp_path / "config.toml"
    for text in (
        f"{toml(secret)} = 1",
        f"[{toml(secret)}]\nx = 1",
        f"[stripe]\n{toml(secret)} = 1",
        f"[stripe]\napi_key = {toml(secret)}",
        f"[halo]\nurl = {toml(secret)}",
        f"[stripe]\nmode = {toml(secret)}",
        f"[poll]\ninterval = {toml(secret)}",
    ):
        place.write_text(text, "utf-8")
        assert read(place) is None


names = st.sampled_from([
    "SYNCD_STRIPE", "SYNCD_HALO", "SYNCD_HALO__URL", "SYNCD_HALO__STATUS", "SYNCD_HALO__STATUS__SUCCEEDED",
    "SYNCD_POLL__INTERVAL", "SYNCD_WEB__LISTEN", "SYNCD_STATE__URL", "SYNCD_PUSH__BATCH", "SYNCD_STRIPE__ACCOUNT",
    "SYNCD_STRIPE_API_KEY", "SYNCD_HALO_CLIENT_SECRET", "SYNCD_WEB_TOKEN", "CREDENTIALS_DIRECTORY",
    "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
])  # fmt: skip
variables = st.text(
    st.characters(exclude_characters="\x00", codec="utf-8"), max_size=30
) | st.sampled_from([
    "{", "[]", '{"succeeded": 1e999}', "9" * 5_000, "127.0.0.1:²", "[::1]:0", ":", "https://[::1", "/dev/zero",
    "true", "-1", "0", "https://a..b", "https://x:y@z", "\udcff", "https://é.example", "sqlite:///", "[" * 3_000,
    *SECRETS,
])  # fmt: skip


@hostile(80)
@given(st.dictionaries(names, variables, min_size=1, max_size=3))
def test_environments(tmp_path: Path, chosen: dict[str, str]) -> None:
    """Random variables over a valid file are accepted or refused, and no error repeats a secret."""
    place = tmp_path / "config.toml"
    place.write_text(written(FILE), "utf-8")
    config = read(place, **chosen)
    if config is not None:
        assert_usable(config)


@hostile(200)
@given(
    texts
    | st.from_regex(r"\A\d{1,12}[smhd]\Z")
    | st.datetimes().map(str)
    | st.dates().map(str)
    | st.sampled_from(["0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "9" * 5_000 + "d"])
)
def test_dates_and_spans(text: str) -> None:
    """Any text is a valid start of a backfill or a usage error."""
    try:
        since = since_of(text, lambda: NOW)
    except typer.BadParameter as wrong:
        assert_fit_to_be_shown(wrong.message)
    else:
        assert 0 <= since <= NOW + 60
    for reader in (span_seconds, address):
        try:
            reader(text)
        except ValueError as refused:
            assert_fit_to_be_shown(str(refused))


words = st.sampled_from([
    "--once", "--backfill", "--dry-run", "--config", "--json", "--version", "--help", "-h", "--all", "--", "-",
    "status", "attention", "retry", "dismiss", "resync", "90d", "2026-10-01", "pi_1", "--backfill=", "/dev/null",
    "--install-completion=x", "\udcff", "\x1b[31m", "", "pi_1/../x", "--config=/dev/zero", "-\u202e",
])  # fmt: skip


@hostile(100)
@given(st.lists(words | texts, max_size=5))
def test_command_lines(tmp_path: Path, arguments: list[str]) -> None:
    """Any arguments end with a documented exit code and without a traceback."""
    refused = {
        "SYNCD_HALO__URL": "http://nobody.example",
        "SYNCD_CONFIG": str(tmp_path / "none.toml"),
    }
    with environment(**{**KEYS, **refused}):
        result = CliRunner().invoke(
            app, [word for word in arguments if word != "demo"], prog_name="syncd"
        )
    # The command set up its log on the runner's stderr, which is closed now.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    structlog.reset_defaults()
    assert result.exit_code in {0, 1, 2, 78}
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert MARK not in result.output or any(MARK in word for word in arguments)
