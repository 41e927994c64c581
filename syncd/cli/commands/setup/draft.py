"""The values and secrets that ``syncd init`` has collected, only in memory until the end.

Does not belong here: asking for them (`dialog`), and testing them (`init`).
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from syncd.cli import shared
from syncd.config.describe import given, shipped
from syncd.config.edit import Key, Planned, with_values, write_all
from syncd.config.load import load, raw_file
from syncd.config.model import Config, ConfigurationError
from syncd.config.secrets import ENCRYPTED, SECRETS, find_secret
from syncd.text import database_url
from syncd.text.sanitize import conceal

UNITS = Path("/etc/systemd/system")

SCHEMA = Path(sys.prefix, "share/syncd/config.schema.json")
"""The JSON schema for editors, if the installation has one."""


@dataclass(slots=True)
class Draft:
    """A configuration that is being set up.

    Attributes:
        file: the configuration file.
        text: the present file; the shipped one if there is no file.
        is_new: whether there is no file yet.
        values: the values to set in the file.
        secrets: the secrets to write.
        kept: the secrets that are already in the folder of the file.
        environment: the environment without syncd's variables.
    """

    file: Path
    text: str
    is_new: bool
    values: dict[Key, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    kept: dict[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def begin(cls, file: Path, environment: MutableMapping[str, str]) -> "Draft":
        """Start from the file and the environment; variables of syncd count as answers.

        They are removed from the environment, so that `init` tests the future file's own values.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        file = file.absolute()
        draft = cls(file, *_text_of(file))
        for name in SECRETS:
            found = find_secret(name, environment, file)
            if found.value and not found.problems:
                beside = Path(found.source).parent == file.parent
                (draft.kept if beside else draft.secrets)[name] = found.value
        draft.values |= given(environment)
        if draft.is_first:
            draft.values |= _of_instance(file) | draft.values
        for name in [one for one in environment if one.upper().startswith("SYNCD_")]:
            del environment[name]
        environment.pop("CREDENTIALS_DIRECTORY", None)
        draft.environment = dict(environment)
        return draft

    @property
    def is_first(self) -> bool:
        """Whether nothing was set up yet: there is no file, or only the shipped one."""
        return self.is_new or not self._in_file("halo", "client_id")

    @property
    def unit(self) -> str | None:
        """The systemd unit that reads this file; None for a file in another place."""
        return shared.unit_of(self.file)

    def secret(self, name: str) -> str | None:
        """A secret: the new one, else the kept one."""
        return self.secrets.get(name) or self.kept.get(name)

    def written(self) -> str:
        """The future text of the file."""
        text = with_values(self.text, self.values, str(self.file))
        if self.is_new:
            place = f"#:schema {SCHEMA}\n" if SCHEMA.exists() else ""
            text = place + text.partition("\n")[2]
        return text

    def config(self, **blanks: str) -> Config:
        """The configuration as syncd would read it.

        Args:
            blanks: values of [halo] for keys that are not known yet.

        Raises:
            ConfigurationError: with all problems.
        """
        missing: dict[Key, Any] = {("halo", key): text for key, text in blanks.items()}
        text = with_values(self.text, {**missing, **self.values}, str(self.file))
        with tempfile.TemporaryDirectory(prefix="syncd-init-") as folder:
            place = Path(folder, "config.toml")
            place.write_text(text, "utf-8")
            try:
                loaded = load(place, self.environment, signing_in=False)
            except ConfigurationError as error:
                problems = [one.replace(str(place), str(self.file)) for one in error.problems]
                raise ConfigurationError(problems, self.file) from None
        for name in SECRETS:
            conceal(name, self.secret(name))
        return replace(
            loaded,
            file=self.file,
            stripe_api_key=self.secret("stripe_api_key") or "",
            halo_client_secret=self.secret("halo_client_secret") or "",
        )

    def value(self, *key: str) -> Any:
        """A value: the new one, else the file's; None if neither sets it."""
        return self.values[key] if key in self.values else self._in_file(*key)

    def _in_file(self, *key: str) -> Any:
        table: Any = {} if self.is_new else tomllib.loads(self.text)
        for part in key:
            table = table.get(part) if isinstance(table, Mapping) else None
        return table

    @property
    def is_encrypted(self) -> bool:
        """Whether the secrets in the folder of the file are encrypted."""
        return any(self.file.with_name(f"{name}{ENCRYPTED}").exists() for name in SECRETS)

    def write(self, *, encrypt: bool) -> list[Path]:
        """Write all files or none; return the files that were written.

        Raises:
            ConfigurationError: a file cannot be written, or a secret cannot be encrypted.
        """
        files = [Planned(self.file, self.written())]
        if encrypt:
            secrets = {**self.kept, **self.secrets}
            files += [
                Planned(self.file.with_name(f"{name}{ENCRYPTED}"), encrypted(name, text), 0o600)
                for name, text in secrets.items()
            ]
            if self.unit is not None:
                files.append(Planned(self._drop_in(), _credentials(self.file.parent, secrets)))
        else:
            files += [
                Planned(self.file.with_name(name), f"{text}\n", 0o600)
                for name, text in self.secrets.items()
            ]
        write_all(files)
        if encrypt:
            for name in SECRETS:
                self.file.with_name(name).unlink(missing_ok=True)
            if self.unit is not None:
                subprocess.run(["systemctl", "daemon-reload"], check=False)  # noqa: S607  # systemd's own
        return [one.place for one in files]

    def _drop_in(self) -> Path:
        return UNITS / f"{self.unit}.service.d" / "credentials.conf"


def _text_of(file: Path) -> tuple[str, bool]:
    """The text of the file and False; the shipped text and True if there is no file."""
    try:
        return raw_file(file)[0], False
    except FileNotFoundError:
        return shipped(), True
    except NotADirectoryError as error:
        raise ConfigurationError([f"{file}: can't be read: {error.strerror}"]) from None
    except PermissionError:
        raise ConfigurationError([f"{file}: can't be read; run syncd init as root"]) from None
    except ValueError as error:  # invalid TOML, or not UTF-8
        raise ConfigurationError([f"{file}: invalid TOML: {error}"]) from None


def _of_instance(file: Path) -> dict[Key, Any]:
    """An instance's own values: a database, and a port that no other instance uses."""
    if file.parent.parent != shared.SYSTEM:
        return {}
    name = file.parent.name
    used = len([one for one in shared.SYSTEM.glob("*/config.toml") if one != file])
    return {
        ("state", "url"): database_url.url_of(Path(f"/var/lib/syncd-{name}/syncd.db")),
        ("web", "listen"): f"127.0.0.1:{9465 + used}",
    }


def _credentials(folder: Path, names: Mapping[str, str]) -> str:
    """The systemd drop-in that passes encrypted secrets to the service."""
    lines = [
        f"LoadCredentialEncrypted={name}:{folder / name}{ENCRYPTED}"
        for name in SECRETS
        if name in names
    ]
    head = "# Written by syncd init: the secrets are encrypted for this machine.\n"
    return head + "\n".join(["[Service]", "LoadCredential=", *lines, ""])


def encrypted(name: str, text: str) -> str:
    """A secret, encrypted by systemd-creds for this machine.

    Raises:
        ConfigurationError: systemd-creds is missing or fails.
    """
    program = shutil.which("systemd-creds")
    if program is None:
        raise ConfigurationError(["--encrypt needs systemd-creds (systemd 250 or newer)"])
    done = subprocess.run(  # noqa: S603  # systemd's own program
        [program, "encrypt", f"--name={name}", "-", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise ConfigurationError([f"systemd-creds can't encrypt {name}: {done.stderr.strip()}"])
    return done.stdout
