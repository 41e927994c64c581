"""The configuration: all problems at once, each with its line and key, and never a secret."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.config import secrets
from syncd.config.advice import advice_for
from syncd.config.load import load
from syncd.config.model import Config, ConfigurationError, differences, shown
from syncd.config.secrets import find_secret
from tests.conftest import ROOT, Rig

GOOD = '[halo]\nurl = "https://example.halopsa.com"\nclient_id = "an-application"\n'
SECRETS = {
    "SYNCD_STRIPE_API_KEY": "rk_test_51AbcZq7Hidden",
    "SYNCD_HALO_CLIENT_SECRET": "d0n-t-Zq7-show-me",
}
VARIABLES = ", ".join(secrets.SECRETS.values())
IN_FILE = (
    "a secret must not be in the file. Use a systemd credential or an environment "
    f"variable ({VARIABLES}) instead, and renew the secret, because others could read it here"
)

Loading = Callable[..., Config]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to load, and an environment that has only the secrets."""
    for name in [name for name in os.environ if name.startswith("SYNCD_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config.toml"


def problems(file: Path, text: str | None = None) -> list[str]:
    """The problems of a file, without the file's path."""
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file, os.environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.removeprefix(f"{file}:").strip() for problem in caught.value.problems]


# --- wrong, missing, unknown -----------------------------------------------------------------------


def test_all_at_once(file: Path) -> None:
    """All wrong keys are reported at once, each with its line."""
    text = """\
[stripe]
api_base = "http://api.example.com"
account = "me"
mode = "prod"
read_budget = 0
[halo]
url = "https://user:pw@example.com/?token=1"
client_id = ""
rate_limt = 300
[halo.status]
succeeded = "three"
processing = true
[poll]
interval = 5
overlap = "2d"
sweep = "daily"
[push]
batch = 1.5
create_missing = "perhaps"
on_amount_mismatch = "ignore"
[state]
url = "mysql://localhost/x"
[web]
listen = "9464"
stale_after = "0s"
[extra]
"""
    assert problems(file, text) == [
        "2: stripe.api_base: must be an https:// address (http:// only on this machine's loopback)",
        '3: stripe.account: must be a connected account\'s id ("acct_…"), or empty',
        "4: stripe.mode: must be '', 'live' or 'test'",
        "5: stripe.read_budget: must be at least 1",
        "7: halo.url: must be a plain address, without a user, a query or a fragment",
        "8: halo.client_id: must not be empty",
        "11: halo.status.succeeded: must be a whole number",
        "12: halo.status.processing: must be a whole number",
        "9: halo.rate_limt: is not a key of syncd; did you mean rate_limit?",
        '14: poll.interval: must be a span of time in quotes, such as "5m"',
        "15: poll.overlap: must be at most 1d",
        '16: poll.sweep: must be a span of time such as "30s", "5m", "2h" or "1d"',
        "18: push.batch: must be a whole number",
        "19: push.create_missing: must be true or false",
        "20: push.on_amount_mismatch: must be 'hold' or 'push'",
        '22: state.url: must be "sqlite:///" and a file\'s path ("sqlite:////var/lib/…"), or '
        '"postgresql://user@host:5432/database"',
        '24: web.listen: must be an address and a port, such as "127.0.0.1:9464"',
        "25: web.stale_after: must be at least 1s",
        "26: extra: is not a key of syncd",
    ]


@pytest.mark.parametrize("text", ["", "[halo]\n", "[poll]\n", "halo = {}\n"])
def test_missing(file: Path, text: str) -> None:
    """Each missing key is reported, with both places where it can be set."""
    assert problems(file, text) == [
        "halo.url: is missing (set it in the file, or as SYNCD_HALO__URL)",
        "halo.client_id: is missing (set it in the file, or as SYNCD_HALO__CLIENT_ID)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("halo = 3\n", "1: halo: must be a table: [halo]"),
        (GOOD + "status = 3\n", "4: halo.status: must be a table: [halo.status]"),
        (GOOD.replace('"an-application"', "17"), "3: halo.client_id: must be text in quotes"),
        (GOOD + 'rate_limit = "200"', "4: halo.rate_limit: must be a whole number, without quotes"),
        (GOOD + '[push]\ncreate_missing = "yes"',
         "5: push.create_missing: must be true or false, without quotes"),
        (
            GOOD + "[halo.status]\nsucceeded = 3\ncanceled = 3\n",
            "4: halo.status: succeeded and canceled have the same number, 3, so syncd could not tell a "
            "paid bill from an unpaid one",
        ),
        (GOOD.replace("https", "http"), "2: halo.url: must be an https:// address (http:// only on "
         "this machine's loopback)"),
        (GOOD.replace(".com", ".com:99999"), "2: halo.url: has an invalid host or port"),
        (GOOD + '[web]\nlisten = "0.0.0.0:9464"\n', "5: web.listen: can be reached from other "
         "machines, which needs a token: set the secret web_token (or SYNCD_WEB_TOKEN), or listen "
         "on 127.0.0.1"),
        (GOOD + '[poll]\nlook_back = "31d"\n', "5: poll.look_back: must be at most 30d"),
        (GOOD + '[push]\ninvoice_metadata_key = ""\n', "5: push.invoice_metadata_key: must not be "
         "empty"),
    ],
)  # fmt: skip
def test_one_problem(file: Path, text: str, said: str) -> None:
    """Each mistake is reported with exactly one sentence."""
    assert problems(file, text) == [said]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"[halo\n",
            "invalid TOML: Expected ']' at the end of a table declaration (at line 1, column 6)",
        ),
        (
            GOOD.encode() + b'url = "x"\n',
            "invalid TOML: Cannot overwrite a value (at line 4, column 10)",
        ),
        (b"\xff\xfe", "isn't text in UTF-8"),
    ],
)
def test_a_file_that_is_none(file: Path, content: bytes, said: str) -> None:
    """Invalid TOML is reported once, with its line, and without further guesses."""
    file.write_bytes(content)
    assert problems(file) == [said]


def test_files_that_can_not_be_read(file: Path) -> None:
    """A missing file or a folder is reported with the system's error message."""
    assert problems(file) == ["can't be read: No such file or directory"]
    file.mkdir()
    assert problems(file) == ["can't be read: Is a directory"]


def test_where_the_file_is_looked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config overrides SYNCD_CONFIG, which overrides /etc/syncd/config.toml and then ./config.toml."""
    monkeypatch.setattr("syncd.config.load.PLACES", (file.parent / "etc.toml", Path("config.toml")))
    with pytest.raises(ConfigurationError, match="Name a file with --config or SYNCD_CONFIG"):
        load(None, os.environ)
    for name in ("config.toml", "etc.toml", "variable.toml", "option.toml"):
        place = file.parent / name
        place.write_text(GOOD.replace("an-application", name))
        if name == "variable.toml":
            monkeypatch.setenv("SYNCD_CONFIG", str(place))
        option = place if name == "option.toml" else None
        assert load(option, os.environ).halo.client_id == name


# --- the environment -------------------------------------------------------------------------------


def test_environment_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable overrides its key of the file, and other keys stay."""
    file.write_text(GOOD + "[halo.status]\nsucceeded = 3\ncanceled = 4\n")
    monkeypatch.setenv("SYNCD_HALO__STATUS__SUCCEEDED", "33")
    monkeypatch.setenv("SYNCD_POLL__INTERVAL", "90s")
    monkeypatch.setenv("SYNCD_PUSH__CREATE_MISSING", "true")
    monkeypatch.setenv("SYNCD_HALO__NEW_ROW__METHOD", "12")
    monkeypatch.setenv("SYNCD_HALO__NEW_ROW__MODULE_ID", "231")
    loaded = load(file, os.environ)
    assert {str(s): n for s, n in loaded.halo.status.numbers.items()} == {
        "succeeded": 33,
        "canceled": 4,
    }
    assert (loaded.poll.interval, loaded.push.create_missing) == (90, True)
    assert loaded.halo.client_id == "an-application"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SYNCD_HALO__URLL", "x", "halo.urll (SYNCD_HALO__URLL): is not a key of syncd; did "
         "you mean url?"),
        ("SYNCD_POL__INTERVAL", "x", "SYNCD_POL__INTERVAL: pol is not a table of syncd; did you mean "
         "SYNCD_POLL__…?"),
        ("SYNCD_ANYTHING__ELSE", "x", "SYNCD_ANYTHING__ELSE: anything is not a table of syncd"),
        ("SYNCD_HALO__CLIENT_SECRET", "x", "halo.client_secret (SYNCD_HALO__CLIENT_SECRET): is not a key of "
         f"syncd; syncd reads secrets from {VARIABLES}"),
        ("SYNCD_POLL__INTERVAL", "often", 'poll.interval (SYNCD_POLL__INTERVAL): must be a span of time '
         'such as "30s", "5m", "2h" or "1d"'),
        ("SYNCD_HALO__CLIENT_ID", "", "halo.client_id (SYNCD_HALO__CLIENT_ID): must not be empty"),
        ("SYNCD_HALO__URL", "https://acme.halo.example/api/", "halo.url (SYNCD_HALO__URL): must be the "
         "tenant's own address without a path behind the host (https://your-name.halopsa.com, not …/api, "
         "…/auth or …/portal)"),
        ("SYNCD_HALO", "{no json", "environment: a SYNCD_… variable can't be read: SettingsError"),
    ],
)  # fmt: skip
def test_variables_that_are_wrong(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """An unknown or wrong variable is an error, so that a typing mistake does not mean a default."""
    monkeypatch.setenv(name, value)
    assert problems(file, GOOD) == [said]


# --- keys and secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "key", "said"),
    [
        ("", "pk_live_x", "this is a publishable key (pk_…), which cannot read payments; make a restricted key "
         "(rk_…) with read access to Events and PaymentIntents"),
        ("test", "pk_test_x", "this is a publishable key (pk_…), which cannot read payments; make a restricted key"),
        ("live", "rk_test_x", "this is a test key, but stripe.mode is 'live'"),
        ("live", "sk_test_x", "this is a test key, but stripe.mode is 'live'"),
        ("test", "rk_live_x", "this is a live key, but stripe.mode is 'test'"),
        ("live", "rk_live_x", None), ("test", "sk_test_x", None), ("", "rk_live_x", None),
        ("", "rk_test_x", None),
    ],
)  # fmt: skip
def test_keys(
    file: Path, monkeypatch: pytest.MonkeyPatch, mode: str, key: str, said: str | None
) -> None:
    """A publishable key, or a key that does not match `stripe.mode`, is refused without being shown."""
    monkeypatch.setenv("SYNCD_STRIPE_API_KEY", key)
    text = f'{GOOD}[stripe]\nmode = "{mode}"\n'
    if said is None:
        file.write_text(text)
        assert load(file, os.environ).stripe_api_key == key
    else:
        [problem] = problems(file, text)
        assert problem.startswith(f"stripe_api_key: {said}")
        assert problem.endswith("(read from SYNCD_STRIPE_API_KEY)")


@pytest.mark.parametrize("key", ["sk_org_live_Zq7Hidden", "sk_orgZq7Hidden", "rk_org_test_Zq7"])
def test_key_of_an_organization(file: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The key of an organization needs `stripe.account`, because the key belongs to no single account."""
    monkeypatch.setenv("SYNCD_STRIPE_API_KEY", key)
    (refused,) = problems(file, f'{GOOD}[stripe]\naccount = ""\n')
    assert refused.startswith(
        "5: stripe.account: is missing: the Stripe key belongs to an organization"
    )
    assert "Set stripe.account to the id (acct_…)" in refused
    file.write_text(f'{GOOD}[stripe]\naccount = "acct_1"\n')
    assert load(file, os.environ).stripe_api_key == key
    file.write_text(GOOD)
    assert load(file, os.environ, signing_in=False).stripe.account == ""


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('client_secret = "Zq7Hidden"', "4: halo.client_secret"),
        ('Client-Secret = "Zq7Hidden"', "4: halo.Client-Secret"),
        ('token = ["Zq7Hidden"]', "4: halo.token"),
        ('password = {value = "Zq7Hidden"}', "4: halo.password"),
        ('more = {deep = {api_key = "Zq7Hidden"}}', "halo.more.deep.api_key"),
        ('client_id = "rk_live_Zq7Hidden"', "3: halo.client_id"),
        ('scope = "read sk_test_Zq7Hidden"', "4: halo.scope"),
        ('list = ["a", ["b", "rk_live_Zq7Hidden"]]', "4: halo.list"),
        ('"rk_live_Zq7Hidden" = 1', "4: halo.…"),
        ('hook = "whsec_Zq7Hidden"', "4: halo.hook"),
        ('note = "pi_1_secret_Zq7Hidden"', "4: halo.note"),
        ('[stripe]\napi_key = "Zq7Hidden"', "5: stripe.api_key"),
        ('[[halo.tenants]]\nclient_secret = "Zq7Hidden"', "5: halo.tenants.client_secret"),
        ('[deep.down.below]\nkey = "Zq7Hidden"', "5: deep.down.below.key"),
    ],
    ids=map(str, range(14)),  # the file's path contains the id, and a path must not show a secret
)
def test_secrets_in_the_file(file: Path, line: str, place: str) -> None:
    """A secret anywhere in the file is refused, whether its name or value shows it, and is never shown."""
    good = GOOD if not line.startswith("client_id") else GOOD.rsplit("client_id", 1)[0]
    said = problems(file, f"{good}{line}\n")
    assert f"{place}: {IN_FILE}" in said
    assert not [problem for problem in said if "Zq7Hidden" in problem]
    assert sum(problem.endswith(IN_FILE) for problem in said) == 1


def test_credentials(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd's credentials override the environment, and spaces around a credential are removed."""
    folder = file.parent / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    file.write_text(GOOD)
    (folder / "stripe_api_key").write_text("rk_live_credential\n")
    (folder / "web_token").write_text(" a-token \n")
    loaded = load(file, os.environ)
    assert (loaded.stripe_api_key, loaded.halo_client_secret, loaded.web_token) == (
        "rk_live_credential",
        SECRETS["SYNCD_HALO_CLIENT_SECRET"],
        "a-token",
    )


def test_credentials_that_are_wrong(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or unreadable credential is an error with its path; syncd uses no other source instead."""
    folder = file.parent / "credentials"
    (folder / "halo_client_secret").mkdir(parents=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    (folder / "stripe_api_key").write_text("\n")
    (folder / "web_token").write_bytes(b"\xff\xfe")
    assert problems(file, GOOD) == [
        f"stripe_api_key: {folder}/stripe_api_key is empty",
        f"halo_client_secret: {folder}/halo_client_secret can't be read: Is a directory",
        f"web_token: {folder}/web_token can't be read: not text in UTF-8",
    ]


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A folder with a secret that this process, without root rights, can see but not read."""
    with TemporaryDirectory(dir="/tmp") as name:  # other accounts cannot enter root's own folder
        folder = Path(name)
        folder.chmod(0o755)
        secret = folder / "stripe_api_key"
        secret.write_text("rk_test_hidden")
        secret.chmod(0o000)
        root = os.geteuid() == 0
        if root:
            os.seteuid(10001)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def test_secrets_that_this_account_may_not_read(unreadable: Path) -> None:
    """If the account may not read a secret, the message names the account, owner, mode and remedy."""
    user, owner = os.geteuid(), unreadable.stat().st_uid
    secret = unreadable / "stripe_api_key"
    as_root = find_secret("stripe_api_key", {}, unreadable / "config.toml")
    assert as_root.problems == (
        f"stripe_api_key: {secret} can't be read by this account, uid {user} (owner uid {owner}, mode 000); "
        "run the command as root, or as the account of syncd",
    )
    environment = {"CREDENTIALS_DIRECTORY": str(unreadable)}
    assert find_secret("stripe_api_key", environment, None).problems == (
        f"stripe_api_key: uid {user}, as which syncd runs, can't read {secret} (owner uid {owner}, mode 000). "
        f"For a container, run this on the host, in the folder of the secret: chown {user} stripe_api_key",
    )


@pytest.mark.parametrize("value", ["two words", "tab\tbed", "line\nbroken", "é", "\x1b[31m"])
def test_secrets_that_can_not_be_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A secret that cannot be sent in an HTTP header is refused before any request, without being shown."""
    monkeypatch.setenv("SYNCD_HALO_CLIENT_SECRET", value)
    assert problems(file, GOOD) == [
        "halo_client_secret: contains a line break, a space or a character that is not printable; "
        "paste the secret alone (read from SYNCD_HALO_CLIENT_SECRET)"
    ]


def test_secrets_that_are_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing secrets are reported together with the places tried; reading the database needs no secret."""
    for name in SECRETS:
        monkeypatch.delenv(name)
    assert problems(file, GOOD) == [
        f"{name}: the secret is missing; tried $SYNCD_{name.upper()}, then {file.parent}/{name}"
        for name in ("stripe_api_key", "halo_client_secret")
    ]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/nowhere")
    (file.parent / "stripe_api_key").write_text("rk_test_beside")  # not passed on by the unit
    assert problems(file, GOOD)[0] == (
        "stripe_api_key: the secret is missing; tried /run/nowhere/stripe_api_key, then "
        "$SYNCD_STRIPE_API_KEY"
    )
    assert load(file, os.environ, signing_in=False).halo.client_id == "an-application"


def test_secrets_beside_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets beside the configuration file are read; an environment variable overrides them."""
    file.write_text(GOOD)
    for name in SECRETS:
        monkeypatch.delenv(name)
    (file.parent / "stripe_api_key").write_text("rk_test_beside\n")
    for name in ("halo_client_secret", "web_token"):
        (file.parent / name).write_text(f"beside-{name}\n")
    loaded = load(Path("config.toml"), os.environ)
    assert (loaded.stripe_api_key, loaded.halo_client_secret, loaded.web_token) == (
        "rk_test_beside",
        "beside-halo_client_secret",
        "beside-web_token",
    )
    monkeypatch.setenv("SYNCD_STRIPE_API_KEY", "rk_test_variable")
    assert load(file, os.environ).stripe_api_key == "rk_test_variable"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ('"rk_test_Zq7Hidden"', "is in quotes; write the secret alone, without quotes"),
        ("'rk_test_Zq7Hidden'\n", "is in quotes; write the secret alone, without quotes"),
        ('"rk_test_Zq7Hidden', "begins with a quote; write the secret alone, without quotes"),
        ("rk_test_Zq7Hidden'", "ends with a quote; write the secret alone, without quotes"),
        ("`rk_test_Zq7Hidden`", "is in backticks; write the secret alone, without backticks"),
        ("rk_test_Zq7Hidden`", "ends with a backtick; write the secret alone, without quotes"),
        (
            "\u201crk_test_Zq7Hidden\u201d",
            "is in typographic quotes; write the secret alone, without typographic quotes",
        ),
        (
            "\u201erk_test_Zq7Hidden\u201c",
            "is in typographic quotes; write the secret alone, without typographic quotes",
        ),
        (
            "\u2019rk_test_Zq7Hidden",
            "begins with a typographic quote; write the secret alone, without quotes",
        ),
        ("rk_test_Zq7\nHidden", "contains a line break, a space"),
        ("SYNCD_STRIPE_API_KEY=rk_test_Zq7Hidden", "begins with the name of a variable"),
        (
            "whsec_Zq7Hidden",
            "this is a webhook signing secret (whsec_…), which cannot read payments",
        ),
        ("pk_live_Zq7Hidden", "this is a publishable key (pk_…), which cannot read payments"),
        ("pi_Zq7_secret_Hidden", "this is a payment's id or client_secret, not a key"),
        ("acct_Zq7Hidden", "this is an account's id (acct_…), not a key"),
        ("ghp_Zq7Hidden", "this is a token of GitHub (ghp_…), not a key of Stripe"),
        ("xoxb-1-Zq7Hidden", "this is a token of Slack (xox…), not a key of Stripe"),
        ("cus_Zq7Hidden", "this is an id of an object at Stripe (cus_…), not a key; make a"),
        ("rk_test_", "this is only the beginning of a key; copy the whole key"),
        ("sk_live", "this is only the beginning of a key; copy the whole key"),
        ("sk_", "this is only the beginning of a key; copy the whole key"),
        ("sk_Zq7Hidden", "a key of Stripe begins with rk_ or sk_, and then has live,"),
        ("hunter_Zq7Hidden", "a key of Stripe begins with rk_ or sk_, and then has live,"),
        ("Zq7Hidden", "a key of Stripe begins with rk_ or sk_, and then has live,"),
        (
            "1f0c2ab4-1111-2222-3333-0123456789ab-Zq7Hidden",
            "this looks like an id or a secret of Halo's API application",
        ),
        ("rk_live_...Hidden", "this is the shortened key that Stripe's dashboard shows"),
        ("rk_live_Zq7Hidden", "this is a live key, but stripe.mode is 'test'; use a test key"),
    ],
)
def test_keys_of_the_wrong_kind(
    file: Path, monkeypatch: pytest.MonkeyPatch, key: str, said: str
) -> None:
    """A value that is not a Stripe key is refused with its kind and path, without any part of the value."""
    monkeypatch.delenv("SYNCD_STRIPE_API_KEY")
    (file.parent / "stripe_api_key").write_text(key)
    [problem] = problems(file, GOOD + '[stripe]\nmode = "test"\n')
    assert problem.startswith(f"stripe_api_key: {said}")
    assert problem.endswith(f"(read from {file.parent}/stripe_api_key)")
    assert "Zq7" not in problem


def test_a_key_in_place_of_halos_secret(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Stripe key in place of Halo's client secret is refused."""
    monkeypatch.setenv("SYNCD_HALO_CLIENT_SECRET", "rk_live_Zq7Hidden")
    [problem] = problems(file, GOOD)
    assert problem.startswith("halo_client_secret: this is a secret of Stripe")


def test_a_short_token(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If other machines can reach the page, a token that is too short is refused."""
    monkeypatch.setenv("SYNCD_WEB_TOKEN", "abc")
    [problem] = problems(file, GOOD + '[web]\nlisten = "0.0.0.0:9464"\n')
    assert problem.startswith("web_token: 3 characters are too few")
    file.write_text(GOOD)
    assert load(file, os.environ).web_token == "abc"  # only this machine can connect


@pytest.mark.parametrize("path", ["/portal/", "/portal", "/auth/token", "/api/", "/auth"])
def test_an_address_with_a_path(file: Path, path: str) -> None:
    """`halo.url` with a path is refused."""
    text = f'[halo]\nurl = "https://tenant.halopsa.com{path}"\nclient_id = "x"\n'
    [problem] = problems(file, text)
    assert "must be the tenant's own address without a path behind the host" in problem


def test_unusual_settings(file: Path) -> None:
    """The example's host and a rate limit above Halo's are accepted, with advice."""
    file.write_text(GOOD + "rate_limit = 500\n")
    assert [(found.key, found.wrong) for found in advice_for(load(file, os.environ))] == [
        ("halo.url", True),
        ("halo.rate_limit", False),
    ]
    file.write_text(GOOD.replace("example.", "tenant."))
    assert advice_for(load(file, os.environ)) == []


@pytest.mark.parametrize(
    ("host", "wrong"),
    [
        ("your-name.halopsa.com", True),
        ("Your-Name.HaloPSA.com", True),
        ("halo.example.com", True),
        ("example.org", True),
        ("myexample.com", False),
        ("example-it.halopsa.com", False),
    ],
)
def test_an_example_in_place_of_an_address(file: Path, host: str, *, wrong: bool) -> None:
    """A host from the documents is reported as an example."""
    file.write_text(GOOD.replace("example.halopsa.com", host))
    assert [found.wrong for found in advice_for(load(file, os.environ))] == [True] * wrong


def test_no_secret_in_what_is_printed(file: Path) -> None:
    """Neither the configuration's text form nor `config show` contains a secret."""
    file.write_text(GOOD)
    loaded = load(file, os.environ)
    told = f"{loaded!r} {loaded} {json.dumps(shown(loaded))}"
    assert "an-application" in told
    assert not [value for value in SECRETS.values() if value in told]


_keys = st.sampled_from(
    [
        "stripe",
        "halo",
        "poll",
        "push",
        "state",
        "web",
        "status",
        "url",
        "client_id",
        "interval",
        "batch",
        "listen",
        "mode",
        "succeeded",
        "api_base",
        "account",
        "trace",
        "scope",
        "new",
    ]
)
_hidden = st.text("abcdef0123456789:/.-_@", max_size=12).map(lambda text: f"Zq7{text}Hidden")
_values = st.recursive(
    st.one_of(_hidden, _hidden.map(lambda text: f"https://{text}"), st.booleans(), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=3)),
    max_leaves=6,
)


def _toml(value: Any) -> str:
    """TOML's inline form; lists and strings are written as in JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_keys, _values, max_size=6), _hidden)
def test_no_value_is_ever_shown(file: Path, content: dict[str, Any], broken: str) -> None:
    """Whatever the file contains, valid or broken, no message repeats a value of the file."""
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in content.items())
    assert tomllib.loads(text) == content
    for end in ("", f"\nmore = {broken}", f"\n{broken}", f'\nmore = "{broken}'):
        file.write_text(text + end)
        assert "Hidden" not in _told(file)


def _told(file: Path) -> str:
    try:
        return repr(load(file, os.environ).file)
    except ConfigurationError as error:
        return str(error)


# --- the shipped file ------------------------------------------------------------------------------


def _uncommented(text: str) -> str:
    """The shipped file with its defaults active, and 0 where no number is shipped."""
    return re.sub(r"^# (\w+ =) *(.*)$", lambda m: f"{m[1]} {m[2] or 0}", text, flags=re.MULTILINE)


def test_shipped_file(file: Path) -> None:
    """The shipped file lacks only `halo.client_id`, and otherwise has the default values."""
    text = (ROOT / "config.toml").read_text()
    (lacking,) = problems(file, text)
    assert re.fullmatch(r"\d+: halo\.client_id: must not be empty", lacking)
    file.write_text(text.replace('client_id = ""', 'client_id = "an-application"'))
    filled = load(file, os.environ)
    file.write_text(GOOD)
    assert differences(filled, load(file, os.environ)) == []


def test_shipped_defaults(file: Path) -> None:
    """The shipped file shows every key, and each default in a comment is the real default."""
    text = _uncommented((ROOT / "config.toml").read_text())
    text = text.replace('client_id = ""', 'client_id = "an-application"')
    # The tenant's own numbers have no default, so the file shows only their keys.
    numbers = re.findall(r"^(\w+) = 0$", text, flags=re.MULTILINE)
    assert numbers == [
        "succeeded",
        "payment_failed",
        "processing",
        "canceled",
        "requires_action",
        "method",
        "module_id",
    ]
    written = tomllib.loads(text)
    file.write_text(re.sub(r"^\w+ = 0$", "", text, flags=re.MULTILINE))
    loaded = load(file, os.environ)
    file.write_text(GOOD)
    default = load(file, os.environ)
    assert differences(loaded, default) == []
    keys = {section: set(values) for section, values in written.items()}
    assert keys == {section: set(values) for section, values in shown(default).items()}
    assert set(written["halo"]["status"]) == set(shown(default)["halo"]["status"])
    assert set(written["halo"]["new_row"]) == set(shown(default)["halo"]["new_row"])


# --- reload ----------------------------------------------------------------------------------------


def test_differences(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The differences between two configurations name the keys, and secrets only by name."""
    file.write_text(GOOD)
    old = load(file, os.environ)
    monkeypatch.setenv("SYNCD_STRIPE_API_KEY", "rk_test_renewed")
    monkeypatch.setenv("SYNCD_WEB_TOKEN", "a-token")
    file.write_text(
        f'{GOOD}[halo.status]\nsucceeded = 3\n[push]\nbatch = 7\n[poll]\nsweep = "24h"\n'
    )
    assert differences(old, load(file, os.environ)) == [
        "halo.status",
        "push.batch",
        "stripe_api_key",
        "web_token",
    ]


# --- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--once",), ("status",), ("attention",)])
def test_exit_78(live: Rig, arguments: tuple[str, ...]) -> None:
    """With a wrong configuration, commands exit with 78 and list all problems without any secret."""
    file = live.folder / "wrong.toml"
    file.write_text('[halo]\nclient_secret = "Zq7Hidden"\n[poll]\nintervall = "5m"\n')
    done = live.command("--config", str(file), *arguments, extra={"SYNCD_HALO__URL": ""})
    assert (done.returncode, done.stdout) == (78, "")
    first, *rest = done.stderr.splitlines()
    assert first == f"syncd: 3 problems in the configuration {file}:"
    assert rest == [
        f"  {file}:2: halo.client_secret: {IN_FILE}",
        "  halo.url: is missing (set it in the file, or as SYNCD_HALO__URL)",
        f"  {file}:4: poll.intervall: is not a key of syncd; did you mean interval?",
    ]


def test_exit_78_for_a_key(live: Rig) -> None:
    """With a key of the wrong kind, `syncd --once` exits with 78 before any request to Stripe."""
    for key, mode in (
        ("pk_test_Zq7Hidden", ""),
        ("rk_live_Zq7Hidden", "test"),
        ("rk_test_Zq7Hidden", "live"),
    ):
        extra = {"SYNCD_STRIPE_API_KEY": key, "SYNCD_STRIPE__MODE": mode}
        done = live.command("--once", extra=extra)
        assert (done.returncode, done.stdout) == (78, "")
        assert "stripe_api_key: this is a" in done.stderr
        assert "Hidden" not in done.stderr
    assert live.box.stripe.requests == []


def test_exit_78_for_the_key_of_an_organization(live: Rig) -> None:
    """The key of an organization is refused without `stripe.account`, and works with it."""
    live.box.stripe.api_key = key = "sk_org_test_Zq7Hidden"
    live.box.stripe.accounts.add("acct_1")
    done = live.command("--once", extra={"SYNCD_STRIPE_API_KEY": key})
    assert (done.returncode, done.stdout) == (78, "")
    assert "stripe.account: is missing" in done.stderr
    assert "Hidden" not in done.stderr
    assert live.box.stripe.requests == []
    extra = {"SYNCD_STRIPE_API_KEY": key, "SYNCD_STRIPE__ACCOUNT": "acct_1"}
    assert live.command("--once", extra=extra).returncode == 0
    assert {r.headers["stripe-context"] for r in live.box.stripe.requests} == {"acct_1"}


def test_new_rows_need_their_numbers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`push.create_missing` without both numbers of `halo.new_row` is refused, with the command to run."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    file.write_text(GOOD + "[halo.new_row]\nmethod = 12\n[push]\ncreate_missing = true\n")
    with pytest.raises(ConfigurationError) as refused:
        load(file, os.environ)
    (problem,) = refused.value.problems
    assert "halo.new_row.module_id" in problem
    assert "syncd calibrate" in problem
    file.write_text(
        GOOD + "[halo.new_row]\nmethod = 12\nmodule_id = 231\n[push]\ncreate_missing = true\n"
    )
    assert load(file, os.environ).push.create_missing
