"""`syncd init` on a real terminal, with a sandbox of Stripe and Halo."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import shared
from syncd.cli.commands.setup import draft
from syncd.config.describe import shipped
from syncd.config.edit import Planned, with_values, write_all
from syncd.config.load import load
from syncd.config.model import ConfigurationError
from syncd.sandbox import Sandbox
from tests.conftest import Rig
from tests.documents import written_by_halo
from tests.terminals import INTERRUPTED, Shown, conversation


class Setup:
    """A machine without syncd's configuration, and a tenant whose rows show the status numbers."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.box: Sandbox = rig.box
        self.file = rig.folder / "etc" / "config.toml"
        written_by_halo(self.box)
        self.around = {
            "SYNCD_STRIPE__API_BASE": self.box.stripe.url,
            "SYNCD_STATE__URL": rig.url,
            "SYNCD_WEB__LISTEN": "127.0.0.1:0",
        }
        self.answers = [
            ("Halo's address", f"{self.box.halo.url}/portal?x=1\n"),
            ("Its client id", f"{self.box.halo.client_id}\n"),
            ("Its client secret", f"{self.box.halo.client_secret}\n"),
            ("Stripe's key", f"{self.box.stripe.api_key}\n"),
            ("Write ", "y\n"),
        ]

    def init(self, answers: list[tuple[str, str]], *arguments: str, **extra: str) -> Shown:
        return conversation(
            {**self.around, **extra},
            self.rig.folder,
            "init",
            "--config",
            str(self.file),
            *arguments,
            script=answers,
        )

    def scripted(self, *arguments: str, **extra: str) -> Any:
        nothing = dict.fromkeys(self.rig.environment(), "")
        return self.rig.command(
            "init",
            "--defaults",
            "--config",
            str(self.file),
            *arguments,
            extra={**nothing, **self.around, **extra},
        )

    def files(self) -> dict[str, str]:
        """All files in the folder, hidden files too, except the database."""
        found = [one for one in self.rig.folder.rglob("*") if one.is_file()]
        return {
            str(one.relative_to(self.rig.folder)): one.read_text()
            for one in found
            if not one.name.startswith("syncd.db")
        }


@pytest.fixture
def setup(live: Rig) -> Setup:
    return Setup(live)


def test_from_nothing(setup: Setup) -> None:
    """`init` tests each answer at once, keeps the file's comments, and writes a usable configuration."""
    box = setup.box
    box.stripe.permissions = {"events", "payment_intents"}
    shown = setup.init(setup.answers)
    assert shown.code == 0, shown.text
    assert f'{box.halo.url} answers: tenant "sandbox", sign-in at' in shown.text
    assert "pass  Halo: read invoices: allowed" in shown.text
    assert "A restricted key of test mode." in shown.text
    assert "warn  Stripe: read Refunds" in shown.text
    assert box.stripe.api_key not in shown.text
    assert box.halo.client_secret not in shown.text
    end = shown.text.replace("\r\n", "\n").rstrip().splitlines()
    assert end[-2:] == [
        f"  syncd prove --config {setup.file}",
        f"  syncd --config {setup.file}",
    ]
    assert '(poll.interval = "auto"), within 10,000 reads in 30 days' in " ".join(end)
    text = setup.file.read_text()
    read = tomllib.loads(text)
    assert read["halo"]["url"] == box.halo.url
    assert read["halo"]["status"] == box.halo.status
    assert read["stripe"] == {"api_base": box.stripe.url, "mode": "test"}
    assert re.search(r'^mode = "test" +# "live" or "test"', text, re.MULTILINE)
    assert re.search(r'^# overlap = "10m" +# ', text, re.MULTILINE)
    assert "\nsucceeded = 3\n" in text
    assert setup.file.stat().st_mode & 0o777 == 0o644
    for name, secret in (
        ("stripe_api_key", box.stripe.api_key),
        ("halo_client_secret", box.halo.client_secret),
    ):
        place = setup.file.with_name(name)
        assert (place.read_text(), place.stat().st_mode & 0o777) == (f"{secret}\n", 0o600)
    assert box.halo.writes == []
    assert set(setup.files()) == {
        "etc/config.toml",
        "etc/stripe_api_key",
        "etc/halo_client_secret",
    }
    loaded = load(setup.file, {})
    assert (loaded.stripe_api_key, loaded.halo.url) == (box.stripe.api_key, box.halo.url)


def test_wrong_answers(setup: Setup) -> None:
    """`init` reports a wrong answer at once, and asks only that question again."""
    box = setup.box
    right = dict(setup.answers)
    answers = [
        ("Halo's address", "http://halo.example\n"),
        ("must be an https:// address", ""),
        ("Halo's address", "http://127.0.0.1:9\n"),
        ("press Enter to try this one again", ""),
        ("Halo's address", right["Halo's address"]),
        ("Its client id", "someone\n"),
        ("Its client secret", "another-secret\n"),
        ("fail  Halo: sign-in: Halo refuses the sign-in", ""),
        ("Its client id [someone]", right["Its client id"]),
        ("Its client secret [set", "rk_test_of_stripe\n"),
        ("this is a secret of Stripe", ""),
        ("Its client secret [set", right["Its client secret"]),
        ("Stripe's key", "pk_test_1234\n"),
        ("this is a publishable key", ""),
        ("Stripe's key", "rk_test_nobodys\n"),
        ("fail  Stripe: sign-in: Stripe refuses the API key", ""),
        ("Stripe's key [set", right["Stripe's key"]),
        ("Write ", "y\n"),
    ]
    shown = setup.init(answers)
    assert shown.code == 0, shown.text
    assert load(setup.file, {}).stripe_api_key == box.stripe.api_key
    for secret in ("another-secret", "rk_test_of_stripe", "pk_test_1234", "rk_test_nobodys"):
        assert secret not in shown.text


def test_a_missing_permission_is_named(setup: Setup) -> None:
    """`init` names a permission that Halo's application or Stripe's key lacks, and offers to try again."""
    box = setup.box
    box.halo.permissions = {"edit:invoices"}
    box.stripe.permissions = {"events"}

    shown = setup.init([*setup.answers[:3], ("press Enter to try again", "\x03")])
    assert shown.code == INTERRUPTED
    assert "fail  Halo: read invoices" in shown.text
    assert "Give the application and its agent role the permission to read invoices." in shown.text
    box.halo.permissions.add("read:invoices")
    shown = setup.init([*setup.answers[:4], ("press Enter to try again", "\x03")])
    assert "fail  Stripe: read PaymentIntents" in shown.text
    assert 'the permission "PaymentIntents": read.' in shown.text
    assert setup.files() == {}


@pytest.mark.parametrize("question", range(5))
def test_interrupted(setup: Setup, question: int) -> None:
    """Ctrl-C at any question changes no file and exits with 130."""
    setup.file.parent.mkdir()
    setup.file.write_text("# mine\n[halo]\nurl = 'https://old.example'\nclient_id = 'old'\n")
    before = setup.files()
    answers = [*setup.answers[:question], (setup.answers[question][0], "\x03")]
    shown = setup.init(answers)
    assert shown.code == INTERRUPTED
    assert shown.text.rstrip().endswith("Nothing was changed.")
    assert setup.files() == before


def test_no_at_the_end(setup: Setup) -> None:
    """If the last question is answered with no, `init` writes nothing."""
    shown = setup.init([*setup.answers[:4], ("Write ", "n\n")])
    assert shown.code == INTERRUPTED
    assert setup.files() == {}
    assert not setup.file.parent.exists()


def test_run_again(setup: Setup) -> None:
    """A second run shows the values; Enter keeps a value, and only new values are written."""
    assert setup.init(setup.answers).code == 0
    kept = setup.file.read_text() + "# a note of mine\n[poll]\ninterval = '7m'\n"
    kept = kept.replace("[poll]\n#", "#", 1).replace("canceled = 6", "canceled = 60")
    setup.file.write_text(kept)
    setup.file.chmod(0o640)
    setup.box.halo.client_secret = "a-renewed-secret"
    again = [
        (f"Halo's address [{setup.box.halo.url}]", "\n"),
        ("Its client id [sandbox-client]", "\n"),
        ("Its client secret [set; Enter keeps it]", "a-renewed-secret\n"),
        ("Stripe's key [set; Enter keeps it]", "\n"),
        (f"Write {setup.file}, and beside it halo_client_secret (mode 600)?", "\n"),
    ]
    shown = setup.init(again)
    assert shown.code == 0, shown.text
    assert "canceled: configured is 60, but the rows show 6" in shown.text
    assert setup.file.read_text() == kept
    assert setup.file.stat().st_mode & 0o777 == 0o640
    assert setup.file.with_name("halo_client_secret").read_text() == "a-renewed-secret\n"
    assert f"  syncd check --config {setup.file}" in shown.text


def test_the_file_of_a_package(setup: Setup) -> None:
    """`init` treats the shipped file as not set up: the example host is no default answer."""
    setup.file.parent.mkdir()
    setup.file.write_text(shipped())
    missing = setup.scripted(SYNCD_HALO__CLIENT_ID="x")
    assert (missing.returncode, setup.file.read_text()) == (78, shipped())
    assert "Halo's address is missing: set SYNCD_HALO__URL" in missing.stderr
    shown = setup.init([("Halo's address: ", setup.answers[0][1]), *setup.answers[1:]])
    assert shown.code == 0, shown.text
    assert f"  syncd prove --config {setup.file}" in shown.text


def test_the_shipped_file_is_not_changed(setup: Setup) -> None:
    """`init` refuses to change the file that syncd ships, before the first question."""
    package = setup.rig.folder / "syncd" / "config"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "config.toml").write_text(shipped())
    setup.file.parent.mkdir()
    setup.file.symlink_to(package / "config.toml")
    done = setup.scripted(SYNCD_HALO__URL=setup.box.halo.url)
    assert done.returncode == 78
    assert "this is the file that syncd ships" in done.stderr
    assert (package / "config.toml").read_text() == shipped()
    assert [one.name for one in setup.file.parent.iterdir()] == ["config.toml"]


def test_by_a_script(setup: Setup) -> None:
    """With --defaults, `init` asks nothing: environment variables are the answers, and go into the file."""
    box = setup.box
    answers = {
        "SYNCD_HALO__URL": box.halo.url,
        "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
        "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
        "SYNCD_POLL__INTERVAL": "7m",
        "SYNCD_PUSH__BATCH": "20",
        "SYNCD_PUSH__TRACE": "false",
    }
    missing = setup.scripted(**answers)
    assert missing.returncode == 78
    assert "Stripe's key is missing: set SYNCD_STRIPE_API_KEY" in missing.stderr
    assert setup.files() == {}
    refused = setup.scripted(**answers, SYNCD_STRIPE_API_KEY="rk_test_nobodys")
    assert (refused.returncode, setup.files()) == (69, {})
    done = setup.scripted(**answers, SYNCD_STRIPE_API_KEY=box.stripe.api_key)
    assert done.returncode == 0, done.stderr
    read = tomllib.loads(setup.file.read_text())
    assert (read["poll"], read["push"]) == ({"interval": "7m"}, {"batch": 20, "trace": False})
    assert read["halo"]["status"] == box.halo.status
    assert setup.file.with_name("stripe_api_key").read_text() == f"{box.stripe.api_key}\n"


@pytest.mark.parametrize("table", [False, True])
def test_numbers_from_variables(setup: Setup, *, table: bool) -> None:
    """Variables set numbers, switches and fractions with the right type, alone or as a table in JSON."""
    halo, numbers = setup.box.halo, setup.box.halo.status
    given = (
        {"SYNCD_HALO__STATUS": json.dumps(numbers), "SYNCD_PUSH": '{"create_missing": true}'}
        if table
        else {f"SYNCD_HALO__STATUS__{state.upper()}": str(n) for state, n in numbers.items()}
    )
    done = setup.scripted(
        SYNCD_HALO__URL=halo.url,
        SYNCD_HALO__CLIENT_ID=halo.client_id,
        SYNCD_HALO_CLIENT_SECRET=halo.client_secret,
        SYNCD_STRIPE_API_KEY=setup.box.stripe.api_key,
        SYNCD_HALO__NEW_ROW__METHOD="12",
        syncd_halo__new_row__module_id="231",
        SYNCD_PUSH__CREATE_MISSING="" if table else "TRUE",
        SYNCD_STRIPE__READ_BUDGET="500",
        SYNCD_NOTIFY__BUDGET_LOW="0.2",
        **given,
    )
    assert done.returncode == 0, done.stderr
    read = tomllib.loads(setup.file.read_text())
    assert read["halo"]["status"] == numbers
    assert read["halo"]["new_row"] == {"method": 12, "module_id": 231}
    assert read["push"] == {"create_missing": True}
    assert read["stripe"]["read_budget"] == 500
    assert read["notify"]["budget_low"] == 0.2


def test_nobody_to_ask(setup: Setup) -> None:
    """Without a terminal and without --defaults, `init` exits with 2."""
    done = setup.rig.command("init", "--config", str(setup.file))
    assert done.returncode == 2
    assert "--defaults" in done.stderr


def test_an_encrypted_installation(setup: Setup, tmp_path: Path) -> None:
    """With --encrypt, no secret is stored as plain text, and syncd reads the encrypted secrets."""
    if shutil.which("systemd-creds") is None:
        pytest.skip("systemd-creds isn't there")
    shown = setup.init(setup.answers, "--encrypt")
    if "can't encrypt" in shown.text:
        pytest.skip("systemd-creds can't encrypt here: only root can")
    assert shown.code == 0, shown.text
    files = setup.files()
    assert set(files) == {
        "etc/config.toml",
        "etc/stripe_api_key.cred",
        "etc/halo_client_secret.cred",
    }
    assert not any(setup.box.stripe.api_key in text for text in files.values())
    loaded = load(setup.file, {})
    assert loaded.stripe_api_key == setup.box.stripe.api_key
    assert loaded.halo_client_secret == setup.box.halo.client_secret


def test_an_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in a subfolder of /etc/syncd gets its own database, port and unit."""
    monkeypatch.setattr(shared, "SYSTEM", tmp_path)
    begun = draft.Draft.begin(tmp_path / "acme/config.toml", {})
    assert begun.values == {
        ("state", "url"): "sqlite:////var/lib/syncd-acme/syncd.db",
        ("web", "listen"): "127.0.0.1:9465",
    }
    assert begun.unit == "syncd@acme"
    assert draft.Draft.begin(tmp_path / "config.toml", {}).unit == "syncd"


# --- the files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("[a]\nb = 1 # why\n", "[a]\nb = 2 # why\n"),
        ("[a]\n# b = 1   # why\n", "[a]\nb = 2     # why\n"),
        ("[a]\n# b =\nc = 1\n", "[a]\nb = 2\nc = 1\n"),
        ("[a]\nc = 1\n", "[a]\nb = 2\nc = 1\n"),
        ("# nothing", "# nothing\n\n[a]\nb = 2\n"),
        ("[c]\nb = 1\n[a]\nb = 1\n", "[c]\nb = 1\n[a]\nb = 2\n"),
        ("a.b = 1\n", "a.b = 2\n"),
        ("a = { b = 1, c = 2 }\n", "a = { b = 2, c = 2 }\n"),
        ("[a]\r\nb = 1\r\n", "[a]\r\nb = 2\r\n"),
        ("[a]\nb = '''\none\n'''\n", "[a]\nb = 2\n"),
    ],
)
def test_a_value_is_set(text: str, after: str) -> None:
    """A value is changed in its place, or where it is commented out; everything else stays."""
    assert with_values(text, {("a", "b"): 2}, "x") == after


def test_all_files_or_none(tmp_path: Path) -> None:
    """If one file cannot be written, no file is changed, and no new folder or temporary file is left."""
    (tmp_path / "one").write_text("before")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/two").mkdir()
    planned = [
        Planned(tmp_path / "one", "after"),
        Planned(tmp_path / "new/three", "after"),
        Planned(tmp_path / "one/four", "after"),
    ]
    with pytest.raises(ConfigurationError, match="Nothing was changed"):
        write_all(planned)
    assert (tmp_path / "one").read_text() == "before"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "one"]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """A pipe or device is not replaced by a file, because as root that could damage the machine."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match=r"not a regular file\. Nothing was changed"):
        write_all([Planned(tmp_path / "one", "after"), Planned(tmp_path / "pipe", "after")])
    assert (tmp_path / "pipe").is_fifo()
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
