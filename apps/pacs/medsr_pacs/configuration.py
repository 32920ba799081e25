"""The TOML file that names archives, and what the listener may do: read, checked, and turned into settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medsr_monai.system.errors import InputError
from medsr_pacs.identifiers import is_ae_title
from medsr_pacs.toml_table import Table, read_toml

VARIABLE = "MEDSR_PACS_CONFIG"
DEFAULT_FILE = "pacs.toml"
TITLE = "an AE title: 1 to 16 characters, no backslash"
ANYONE = "*"


@dataclass(frozen=True)
class Tls:
    """Files in PEM format. `certificate` and `key` are ours, `ca` signed the others' certificates."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_certificate: str = "required"
    check_hostname: bool = True


@dataclass(frozen=True)
class Network:
    """What all associations share; times in seconds, `pdu` in bytes."""

    ae_title: str = "MEDSR"
    pdu: int = 65536
    connect_timeout: float = 10.0
    acse_timeout: float = 30.0
    dimse_timeout: float = 120.0
    network_timeout: float = 120.0


@dataclass(frozen=True)
class DimseSettings:
    """An archive that speaks DIMSE. `move_host` and `move_port` are where it finds us when it is asked to C-MOVE."""

    name: str
    host: str
    port: int
    ae_title: str
    retrieve: str = "get"
    move_host: str = "127.0.0.1"
    move_port: int = 0
    tls: Tls | None = None


@dataclass(frozen=True)
class WebSettings:
    """An archive that speaks DICOMweb; secrets are in the environment, under the names that `_env` settings give."""

    name: str
    url: str
    user_env: str | None = None
    password_env: str | None = None
    token_env: str | None = None
    timeout: float = 120.0
    batch_mb: float = 32.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Limits:
    """What the listener's queue may hold."""

    series: int = 200
    total_gb: float = 50.0
    instance_mb: float = 1024.0
    free_gb: float = 2.0
    associations: int = 8


@dataclass(frozen=True)
class ListenSettings:
    """What the listener accepts, where it keeps it, and where results go; times in seconds."""

    folder: Path
    destination: str
    calling_ae_titles: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 11112
    quiet_seconds: float = 30.0
    complete_on_release: bool = False
    retry_seconds: float = 30.0
    keep_seconds: float = 3600.0
    limits: Limits = Limits()
    tls: Tls | None = None


@dataclass(frozen=True)
class Configuration:
    """A whole file."""

    file: Path
    network: Network
    remotes: dict[str, DimseSettings | WebSettings]
    upscale: dict[str, Any]
    listen: ListenSettings | None = None
    default_remote: str | None = None

    def remote(self, name: str | None) -> DimseSettings | WebSettings:
        """The archive of this name; without a name the default one, or the only one.

        Raises:
            InputError: no such archive, or which one is not said.
        """
        known = ", ".join(sorted(self.remotes)) or "none"
        chosen = name if name is not None else self.default_remote
        if chosen is None:
            if len(self.remotes) != 1:
                raise InputError(f"{self.file}: remotes: there are {known}; choose with --remote NAME")
            chosen = next(iter(self.remotes))
        if chosen not in self.remotes:
            raise InputError(f"{self.file}: remotes.{chosen}: not there; known are {known}")
        return self.remotes[chosen]


def find_configuration(file: str | None) -> Path:
    """The file that is named, else the one that MEDSR_PACS_CONFIG names, else pacs.toml in the working folder."""
    chosen = file or os.environ.get(VARIABLE) or DEFAULT_FILE
    path = Path(os.path.abspath(os.path.expanduser(chosen)))
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --config FILE or set {VARIABLE} (see docs/pacs.example.toml)")
    return path


def read_configuration(file: str | Path | None = None) -> Configuration:
    """Read and check a configuration.

    Args:
        file: None for MEDSR_PACS_CONFIG, or pacs.toml in the working folder.

    Raises:
        InputError: the first mistake, with file and key.
    """
    path = find_configuration(None if file is None else str(file))
    table = Table(path, "", read_toml(path))
    network = _network(table)
    remotes = {name: _remote(part, name) for name, part in table.tables("remotes").items()}
    default = table.text("default_remote", None, f"one of {', '.join(remotes)}", lambda name: name in remotes)
    listen = _listen(table.table("listen"), remotes) if table.has("listen") else None
    upscale = _upscale(table.table("upscale"))
    table.refuse_others()
    if not remotes:
        raise table.error("remotes", "is missing; describe at least one archive as [remotes.NAME]")
    return Configuration(path, network, remotes, upscale, listen, default)


def _network(table: Table) -> Network:
    return Network(
        ae_title=table.text("ae_title", Network.ae_title, TITLE, is_ae_title),
        pdu=table.whole("pdu", 4096, 1048576, Network.pdu),
        connect_timeout=table.number("connect_timeout", 0.1, 3600, Network.connect_timeout),
        acse_timeout=table.number("acse_timeout", 0.1, 3600, Network.acse_timeout),
        dimse_timeout=table.number("dimse_timeout", 0.1, 86400, Network.dimse_timeout),
        network_timeout=table.number("network_timeout", 0.1, 86400, Network.network_timeout),
    )


def _remote(table: Table, name: str) -> DimseSettings | WebSettings:
    kind = table.choice("kind", ("dimse", "dicomweb"))
    settings = _dimse(table, name) if kind == "dimse" else _web(table, name)
    table.refuse_others()
    return settings


def _dimse(table: Table, name: str) -> DimseSettings:
    retrieve = table.choice("retrieve", ("get", "move"), DimseSettings.retrieve)
    settings = DimseSettings(
        name=name,
        host=table.text("host", kind="a host name or an address"),
        port=table.whole("port", 1, 65535),
        ae_title=table.text("ae_title", kind=TITLE, fits=is_ae_title),
        retrieve=retrieve,
        move_host=table.text("move_host", DimseSettings.move_host, "a host name or an address"),
        move_port=table.whole("move_port", 1, 65535, DimseSettings.move_port),
        tls=_client_tls(table.table("tls")) if table.has("tls") else None,
    )
    if retrieve == "move" and not settings.move_port:
        raise table.error("move_port", "is missing; with retrieve = 'move' it is the port where the archive finds us")
    return settings


def _client_tls(table: Table) -> Tls:
    tls = Tls(
        ca=table.existing_file("ca", None),
        certificate=table.existing_file("certificate", None),
        key=table.existing_file("key", None),
        check_hostname=table.switch("check_hostname", True),
    )
    _refuse_half_a_pair(table, tls.certificate, tls.key)
    table.refuse_others()
    return tls


def _refuse_half_a_pair(table: Table, certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        missing = "key" if key is None else "certificate"
        raise table.error(missing, "is missing; certificate and key belong together")


def _web(table: Table, name: str) -> WebSettings:
    url = table.text("url", kind="an address such as https://pacs.example/dicom-web", fits=_is_url)
    settings = WebSettings(
        name=name,
        url=url.rstrip("/"),
        user_env=table.variable("user_env"),
        password_env=table.variable("password_env"),
        token_env=table.variable("token_env"),
        timeout=table.number("timeout", 0.1, 86400, WebSettings.timeout),
        batch_mb=table.number("batch_mb", 0.1, 1024, WebSettings.batch_mb),
        ca=table.existing_file("ca", None),
        certificate=table.existing_file("certificate", None),
        key=table.existing_file("key", None),
    )
    _refuse_half_a_pair(table, settings.certificate, settings.key)
    if (settings.user_env is None) != (settings.password_env is None):
        missing = "user_env" if settings.user_env is None else "password_env"
        raise table.error(missing, "is missing; user_env and password_env belong together")
    if settings.user_env and settings.token_env:
        raise table.error("token_env", "and user_env exclude each other")
    split = urlsplit(url)
    if (settings.user_env or settings.token_env) and split.scheme == "http" and not is_loopback(split.hostname or ""):
        raise table.error("url", "would send the secret unencrypted to another machine; use https://")
    return settings


def _is_url(text: str) -> bool:
    try:
        split = urlsplit(text)
        known = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        return False
    # A secret in the address would end up in the file and in every error message.
    return known and not (split.username or split.password or split.query or split.fragment)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(table: Table, remotes: dict[str, DimseSettings | WebSettings]) -> ListenSettings:
    names = table.texts(
        "calling_ae_titles",
        f'AE titles that may send, or ["{ANYONE}"] for anyone',
        lambda value: value == ANYONE or is_ae_title(value),
    )
    settings = ListenSettings(
        folder=table.resolved(table.text("folder", kind="the path of a folder, without '#'", fits=_is_folder)),
        destination=table.text(
            "destination", kind=f"one of the remotes ({', '.join(remotes)})", fits=lambda v: v in remotes
        ),
        calling_ae_titles=names,
        host=table.text(
            "host", ListenSettings.host, "an address of this machine, such as 127.0.0.1 or 0.0.0.0", _is_ip
        ),
        port=table.whole("port", 0, 65535, ListenSettings.port),
        quiet_seconds=table.number("quiet_seconds", 0.1, 86400, ListenSettings.quiet_seconds),
        complete_on_release=table.switch("complete_on_release", ListenSettings.complete_on_release),
        retry_seconds=table.number("retry_seconds", 0.1, 86400, ListenSettings.retry_seconds),
        keep_seconds=table.number("keep_seconds", 0, 31e6, ListenSettings.keep_seconds),
        limits=_limits(table),
        tls=_server_tls(table.table("tls")) if table.has("tls") else None,
    )
    table.refuse_others()
    return settings


def _is_folder(text: str) -> bool:
    return bool(text) and "#" not in text  # MONAI reads it as a reference of its own


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _limits(table: Table) -> Limits:
    return Limits(
        series=table.whole("max_series", 1, 1000000, Limits.series),
        total_gb=table.number("max_total_gb", 1e-6, 1e6, Limits.total_gb),
        instance_mb=table.number("max_instance_mb", 1e-3, 65536, Limits.instance_mb),
        free_gb=table.number("min_free_gb", 0, 1e6, Limits.free_gb),
        associations=table.whole("max_associations", 1, 1000, Limits.associations),
    )


def _server_tls(table: Table) -> Tls:
    tls = Tls(
        ca=table.existing_file("ca", None),
        certificate=table.existing_file("certificate"),
        key=table.existing_file("key"),
        client_certificate=table.choice("client_certificate", ("required", "none"), Tls.client_certificate),
    )
    if tls.client_certificate == "required" and tls.ca is None:
        raise table.error("ca", "is missing; it checks the clients' certificates (or client_certificate = 'none')")
    table.refuse_others()
    return tls


def _upscale(table: Table) -> dict[str, Any]:
    """What is handed to the bundle's workflow; only what is given."""
    options: dict[str, Any] = {
        "bundle": table.text("bundle", "brain_mri_super_resolution", "a bundle's name or folder")
    }
    for key, take in {
        "profile": lambda: table.choice("profile", ("box", "gaussian", "kspace")),
        "consistency": lambda: table.choice("consistency", ("exact", "none")),
        "perception": lambda: table.number("perception", 0, 1),
        "device": lambda: table.text("device", kind="a device such as cpu or cuda"),
        "memory_gb": lambda: table.number("memory_gb", 0.01, 1e6),
        "uneven": lambda: table.choice("uneven", ("refuse", "resample")),
    }.items():
        if table.has(key):
            options[key] = take()
    table.refuse_others()
    return options
