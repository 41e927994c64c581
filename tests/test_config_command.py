"""`syncd config`: each value with its source, the validation of a file, and the schema for editors."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from syncd.config.describe import schema, shipped
from tests.conftest import ROOT, Rig
from tests.test_config import _uncommented as uncommented

FILE = """\
[stripe]
mode = "test"
[halo]
url = "https://acme.halopsa.com"
client_id = "an-application"
status = { succeeded = 3 }
[poll]
sweep = "2d"
"""


@pytest.fixture
def file(rig: Rig) -> Path:
    """A configuration file beside one secret; the other secret is in the environment."""
    place = rig.folder / "config.toml"
    place.write_text(FILE)
    (rig.folder / "halo_client_secret").write_text("d0n-t-show-me\n")
    return place


def command(rig: Rig, *arguments: str, **extra: str) -> Any:
    """Run `syncd config` without the rig's own settings."""
    nothing = dict.fromkeys(rig.environment(), "")
    return rig.command("config", *arguments, extra={**nothing, **extra})


def test_show_names_every_source(rig: Rig, file: Path) -> None:
    """`config show --json` shows each value with its source, and a secret only as "set" with its place."""
    done = command(
        rig,
        "show",
        "--json",
        "--config",
        str(file),
        SYNCD_POLL__OVERLAP="15m",
        SYNCD_HALO__STATUS__CANCELED="6",
        SYNCD_STRIPE_API_KEY="rk_test_hidden_key",
    )
    assert done.returncode == 0, done.stderr
    shown = {one["key"]: (one["value"], one["source"]) for one in json.loads(done.stdout)}
    assert shown["stripe.mode"] == ("test", f"{file}:2")
    assert shown["halo.url"] == ("https://acme.halopsa.com", f"{file}:4")
    assert shown["halo.status.succeeded"] == (3, f"{file}:6")
    assert shown["halo.status.canceled"] == (6, "SYNCD_HALO__STATUS__CANCELED")
    assert shown["halo.status.processing"] == (None, "default")
    assert shown["poll.sweep"] == ("2d", f"{file}:8")
    assert shown["poll.overlap"] == ("15m", "SYNCD_POLL__OVERLAP")
    assert shown["poll.interval"] == ("auto", "default")
    assert shown["stripe_api_key"] == ("set", "SYNCD_STRIPE_API_KEY")
    assert shown["halo_client_secret"] == ("set", str(file.parent / "halo_client_secret"))
    assert shown["web_token"] == ("not set", "")
    assert "hidden_key" not in done.stdout
    assert "d0n-t" not in done.stdout


def test_show_for_people(rig: Rig, file: Path) -> None:
    """`config show` prints one line for each key, and no secret."""
    done = command(rig, "show", "--config", str(file))
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines["push.trace"] == ["true", "default"]
    assert lines["stripe.account"] == ['""', "default"]
    assert lines["halo.status.succeeded"] == ["3", f"{file}:6"]
    assert lines["stripe_api_key"] == ["not", "set"]
    assert lines["halo_client_secret"] == ["set", str(file.parent / "halo_client_secret")]


def test_show_of_a_credential(rig: Rig, file: Path, tmp_path: Path) -> None:
    """`config show` names the credential file of a secret that systemd passes on."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "stripe_api_key").write_text("rk_test_hidden_key")
    done = command(rig, "show", "--config", str(file), CREDENTIALS_DIRECTORY=str(folder))
    assert f"set                                {folder}/stripe_api_key" in done.stdout


def test_validate(rig: Rig, file: Path) -> None:
    """`config validate` exits with 0, or with 78 and all problems; it sends and creates nothing."""
    secrets = {"SYNCD_STRIPE_API_KEY": "rk_test_hidden_key"}
    good = command(rig, "validate", "--config", str(file), **secrets)
    assert (good.returncode, good.stdout) == (0, f"{file}: every key and value is valid\n")
    file.write_text(FILE.replace("sweep", "sweeep") + "[web]\nlisten = 'x'\n")
    bad = command(rig, "validate", "--config", str(file), **secrets)
    assert bad.returncode == 78
    assert f"{file}:8: poll.sweeep: is not a key of syncd; did you mean sweep?" in bad.stderr
    assert f"{file}:10: web.listen: must be an address" in bad.stderr
    assert (rig.box.stripe.requests, rig.box.halo.requests) == ([], [])
    assert not (rig.folder / "syncd.db").exists()


def test_validate_warns_of_unusual_values(rig: Rig, file: Path) -> None:
    """`config validate` warns of the example address and of a rate limit above Halo's, with the remedies."""
    file.write_text(
        '[halo]\nurl = "https://example.halopsa.com"\nclient_id = "a"\nrate_limit = 900\n'
    )
    done = command(rig, "validate", "--config", str(file), "--without-secrets")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: halo.url: https://example.halopsa.com is only an example. Set halo.url to "
        "the address of your own tenant.",
        "warning: halo.rate_limit: 900 is more than the 300 requests in 5 minutes that Halo allows. Set "
        "halo.rate_limit to 300 or less, or Halo answers 429 to syncd and to other integrations.",
    ]


def test_validate_names_entries_of_no_proxy(rig: Rig, file: Path) -> None:
    """An entry of NO_PROXY that syncd skips is a warning, not an error."""
    extra = {"NO_PROXY": "localhost:abc,fd00::/8,[::1]"}
    done = rig.command("config", "validate", "--config", str(file), extra=extra)
    assert (done.returncode, done.stderr) == (
        0,
        "warning: NO_PROXY: syncd skips the entry 'localhost:abc', which is not a host, a host with a "
        "port, an address or a network. Correct or remove it.\n",
    )


def test_validate_and_the_secrets(rig: Rig, file: Path) -> None:
    """`config validate` fails if a secret is missing; --without-secrets checks the file alone."""
    missing = command(rig, "validate", "--config", str(file))
    assert missing.returncode == 78
    assert "stripe_api_key: the secret is missing" in missing.stderr
    alone = command(rig, "validate", "--config", str(file), "--without-secrets")
    assert alone.returncode == 0


# --- the schema ------------------------------------------------------------------------------------


def errors(text: str) -> list[str]:
    """The keys in which the schema finds errors."""
    found = Draft202012Validator(schema()).iter_errors(tomllib.loads(text))
    return sorted(".".join(map(str, one.absolute_path)) for one in found)


def test_the_schema_is_up_to_date(rig: Rig) -> None:
    """docs/config.schema.json is what `config schema` prints, and is valid; otherwise run `make schema`."""
    printed = command(rig, "schema").stdout
    assert (ROOT / "docs/config.schema.json").read_text() == printed
    Draft202012Validator.check_schema(json.loads(printed))


def test_the_shipped_file_names_the_schema() -> None:
    """The first line of the shipped file names the schema for editors."""
    first = (ROOT / "config.toml").read_text().splitlines()[0]
    assert first == "#:schema ./docs/config.schema.json"
    assert (ROOT / first.split()[1]).exists()
    assert shipped() == (ROOT / "config.toml").read_text()


def test_the_schema_takes_what_syncd_takes() -> None:
    """The schema accepts a minimal file, and the shipped file with every default active."""
    assert errors(FILE) == []
    text = shipped().replace('client_id = ""', 'client_id = "x"')
    everything = uncommented(text)
    assert tomllib.loads(everything)["poll"]["overlap"] == "10m"
    assert errors(everything) == []


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("[poll]\ninterval = 5", "poll.interval"),
        ("[poll]\ninterval = 'often'", "poll.interval"),
        ("[pusch]", ""),
        ("[push]\nbatch = 0", "push.batch"),
        ("[push]\ntrace = 'yes'", "push.trace"),
        ("[push]\non_amount_mismatch = 'ignore'", "push.on_amount_mismatch"),
        ("[halo.new_row]\nmethod = 9_999_999_999", "halo.new_row.method"),
        ("[notify]\nbudget_low = 1.0", "notify.budget_low"),
    ],
)
def test_the_schema_refuses_what_syncd_refuses(more: str, key: str) -> None:
    """The schema finds a wrong key, type or value at its place."""
    assert errors(FILE.replace('[poll]\nsweep = "2d"\n', "") + more) == [key]


def test_every_key_is_explained() -> None:
    """The schema describes a key with the comment of the shipped file."""
    poll = schema()["$defs"]["Poll"]["properties"]
    assert poll["look_back"]["description"].startswith("how far back the very first poll reads")


@pytest.mark.parametrize(
    "command", ["status", "config validate", "check", "calibrate", "export", "--once"]
)
def test_the_file_of_the_current_folder_is_named(rig: Rig, command: str) -> None:
    """Without --config, each command reads ./config.toml, and an error names the file with its full path."""
    (rig.folder / "config.toml").write_text('[halo]\nurl = "https://h.example"\nclient_id = 5\n')
    done = rig.command(*command.split(), extra=dict.fromkeys(rig.environment(), ""))
    assert done.returncode == 78
    assert f"{rig.folder}/config.toml:3: halo.client_id: must be" in done.stdout + done.stderr
