"""What the TOML file may say, table by table, checked by pydantic.

Imported only once pydantic is known to be there, see `medsr_pacs.configuration`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from medsr_monai.system.errors import InputError
from medsr_pacs.identifiers import ANYONE, is_ae_title, is_ip, is_loopback

# Names under which people put secrets into files.
SECRETS = ("password", "passwd", "token", "secret", "user", "username", "api_key", "bearer", "authorization")


class WrongKey(ValueError):
    """A key that does not go with the others."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


def _fitting(fits: Callable[[Any], bool]) -> AfterValidator:
    """A check; what does not pass it is not what the field's description says."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise PydanticCustomError("unfit", "does not fit")
        return value

    return AfterValidator(check)


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """A path as it is meant: a relative one starts at the folder of the configuration."""
    if not isinstance(value, str) or not value:
        return value
    return Path(os.path.abspath((info.context or {}).get("folder", Path()) / os.path.expanduser(value)))


def _existing(value: Any, info: ValidationInfo) -> Any:
    path = _absolute(value, info)
    if isinstance(path, Path) and not (path.is_file() and os.access(path, os.R_OK)):
        raise ValueError(f"{value}: no such file, or it cannot be read")
    return path


def _is_url(text: str) -> bool:
    try:
        split = urlsplit(text)
        known = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        return False
    # A secret in the address would end up in the file and in every error message.
    return known and not (split.username or split.password or split.query or split.fragment)


AeTitle = Annotated[str, _fitting(is_ae_title), Field(description="an AE title: 1 to 16 characters, no backslash")]
Host = Annotated[str, Field(min_length=1, description="a host name or an address")]
Seconds = Annotated[float, Field(ge=0.1, le=86400)]
File = Annotated[Path | None, BeforeValidator(_existing), Field(description="the path of a file")]
# A pasted secret mostly does not look like the name of a variable.
Variable = Annotated[
    str | None,
    Field(
        pattern="^[A-Z_][A-Z0-9_]*$",
        description="the NAME of an environment variable (capitals, digits, _), not the secret itself",
    ),
]


class Table(pydantic.BaseModel):
    """A table: no key that is not known, no value of another type, and no value in a message: it may be a secret."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_its_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = cls.model_fields
        for key in values:
            if key not in known and key.lower() in SECRETS:
                raise WrongKey(key, f"secrets do not belong in a file; give {key}_env = the NAME of a variable")
            if key not in known:
                similar = get_close_matches(key, known, n=1)
                hint = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(sorted(known))}"
                raise WrongKey(key, f"unknown key; {hint}")
        for key, field in known.items():
            if field.is_required() and key not in values:
                raise WrongKey(key, f"is missing; it must be {_described(field)}")
        return values

    @field_validator("*", mode="wrap")
    @classmethod
    def _in_words(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return check(value)
        except pydantic.ValidationError as error:
            inner = error.errors(include_input=False)[0]
            is_here = not any(isinstance(part, str) for part in inner["loc"])
            if not is_here or inner["type"] in ("value_error", "model_type"):  # of a table within, or said already
                raise
            text = f"must be {_described(cls.model_fields[str(info.field_name)])}"
            raise PydanticCustomError("unfit", "{text}", {"text": text}) from None


def _described(field: pydantic.fields.FieldInfo) -> str:
    """What a value must be, in words: the field's description, its choices, or its type and range."""
    types = [part for part in (field.annotation, *get_args(field.annotation)) if part is not None]
    choices = next((get_args(one) for one in types if get_origin(one) is Literal), ())
    low, high = (next((getattr(one, end) for one in field.metadata if hasattr(one, end)), 0) for end in ("ge", "le"))
    if field.description or choices:
        return field.description or f"one of {', '.join(choices)}"
    if bool in types:
        return "true or false"
    if int in types:
        return f"a whole number from {low} to {high}"
    return f"a number from {low:g} to {high:g}" if float in types else "text"


class _Certified(Table):
    """Files in PEM format: `certificate` and `key` are ours, `ca` signed the others' certificates."""

    ca: File = None
    certificate: File = None
    key: File = None

    @model_validator(mode="after")
    def _are_a_pair(self) -> _Certified:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise WrongKey(missing, "is missing; certificate and key belong together")
        return self


class ClientTls(_Certified):
    """TLS towards an archive."""

    check_hostname: bool = True


class ServerTls(_Certified):
    """TLS of the listener."""

    client_certificate: Literal["required", "none"] = "required"

    @model_validator(mode="after")
    def _can_serve(self) -> ServerTls:
        if self.certificate is None:
            raise WrongKey("certificate", "is missing; it must be the path of a file")
        if self.client_certificate == "required" and self.ca is None:
            raise WrongKey("ca", "is missing; it checks the clients' certificates (or client_certificate = 'none')")
        return self


class Network(Table):
    """What all associations share; times in seconds, `pdu` in bytes."""

    ae_title: AeTitle = "MEDSR"
    pdu: int = Field(65536, ge=4096, le=1048576)
    connect_timeout: float = Field(10.0, ge=0.1, le=3600)
    acse_timeout: float = Field(30.0, ge=0.1, le=3600)
    dimse_timeout: Seconds = 120.0
    network_timeout: Seconds = 120.0


class DimseSettings(Table):
    """An archive that speaks DIMSE. `move_host` and `move_port` are where it finds us when it is asked to C-MOVE."""

    kind: Literal["dimse"]
    host: Host
    port: int = Field(ge=1, le=65535)
    ae_title: AeTitle
    retrieve: Literal["get", "move"] = "get"
    move_host: Host = "127.0.0.1"
    move_port: int | None = Field(None, ge=1, le=65535)
    tls: ClientTls | None = None

    @model_validator(mode="after")
    def _can_be_found(self) -> DimseSettings:
        if self.retrieve == "move" and not self.move_port:
            raise WrongKey("move_port", "is missing; with retrieve = 'move' it is the port where the archive finds us")
        return self


class WebSettings(_Certified):
    """An archive that speaks DICOMweb; secrets are in the environment, under the names that `_env` settings give."""

    kind: Literal["dicomweb"]
    url: Annotated[str, _fitting(_is_url), Field(description="an address such as https://pacs.example/dicom-web")]
    user_env: Variable = None
    password_env: Variable = None
    token_env: Variable = None
    timeout: Seconds = 120.0
    batch_mb: float = Field(32.0, ge=0.1, le=1024)

    @model_validator(mode="after")
    def _keeps_secrets(self) -> WebSettings:
        if (self.user_env is None) != (self.password_env is None):
            missing = "user_env" if self.user_env is None else "password_env"
            raise WrongKey(missing, "is missing; user_env and password_env belong together")
        if self.user_env and self.token_env:
            raise WrongKey("token_env", "and user_env exclude each other")
        split = urlsplit(self.url)
        has_secret = bool(self.user_env or self.token_env)
        if has_secret and split.scheme == "http" and not is_loopback(split.hostname or ""):
            raise WrongKey("url", "would send the secret unencrypted to another machine; use https://")
        return self


Remote = Annotated[
    Annotated[DimseSettings, pydantic.Tag("dimse")] | Annotated[WebSettings, pydantic.Tag("dicomweb")],
    pydantic.Discriminator(lambda table: table.get("kind") if isinstance(table, dict) else None),
]


class Limits(Table):
    """What the listener's queue may hold."""

    max_series: int = Field(200, ge=1, le=1000000)
    max_total_gb: float = Field(50.0, ge=1e-6, le=1e6)
    max_instance_mb: float = Field(1024.0, ge=1e-3, le=65536)
    min_free_gb: float = Field(2.0, ge=0, le=1e6)
    max_associations: int = Field(8, ge=1, le=1000)


class ListenSettings(Limits):
    """What the listener accepts, where it keeps it, and where results go; times in seconds."""

    folder: Annotated[
        Path,
        _fitting(lambda path: "#" not in str(path)),  # MONAI reads it as a reference of its own
        BeforeValidator(_absolute),
        Field(description="the path of a folder, without '#'"),
    ]
    destination: str
    calling_ae_titles: Annotated[
        list[str],
        _fitting(lambda titles: titles and all(title == ANYONE or is_ae_title(title) for title in titles)),
        Field(description=f'a list of AE titles that may send, or ["{ANYONE}"] for anyone'),
    ]
    host: Annotated[
        str, _fitting(is_ip), Field(description="an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    ] = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535)
    quiet_seconds: Seconds = 30.0
    complete_on_release: bool = False
    retry_seconds: Seconds = 30.0
    keep_seconds: float = Field(3600.0, ge=0, le=31e6)
    tls: ServerTls | None = None


class UpscaleSettings(Table):
    """What is handed to the bundle's workflow; only what is given."""

    bundle: Annotated[str, Field(min_length=1, description="a bundle's name or folder")] = "brain_mri_super_resolution"
    profile: Literal["box", "gaussian", "kspace"] | None = None
    consistency: Literal["exact", "none"] | None = None
    perception: Annotated[float | None, Field(ge=0, le=1)] = None
    device: Annotated[str | None, Field(min_length=1, description="a device such as cpu or cuda")] = None
    memory_gb: Annotated[float | None, Field(ge=0.01, le=1e6)] = None
    uneven: Literal["refuse", "resample"] | None = None


class Settings(Network):
    """A whole file: what all associations share, the archives by name, and the tables ``upscale`` and ``listen``."""

    remotes: dict[str, Remote] = Field(default_factory=dict, description="a table, [remotes.NAME]")
    default_remote: str | None = None
    upscale: UpscaleSettings = UpscaleSettings()
    listen: ListenSettings | None = None
    _file: Path = pydantic.PrivateAttr(Path())

    @model_validator(mode="after")
    def _names_remotes(self) -> Settings:
        names = ", ".join(self.remotes)
        if not self.remotes:
            raise WrongKey("remotes", "is missing; describe at least one archive as [remotes.NAME]")
        if self.default_remote is not None and self.default_remote not in self.remotes:
            raise WrongKey("default_remote", f"must be one of {names}")
        if self.listen is not None and self.listen.destination not in self.remotes:
            raise WrongKey("listen.destination", f"must be one of the remotes ({names})")
        return self

    @property
    def file(self) -> Path:
        """Where it was read."""
        return self._file

    def choose(self, name: str | None) -> str:
        """The name of an archive: this one; without it the default one, or the only one."""
        known = ", ".join(sorted(self.remotes))
        chosen = name or self.default_remote or (known if len(self.remotes) == 1 else None)
        if chosen is None:
            raise InputError(f"{self.file}: remotes: there are {known}; choose with --remote NAME")
        if chosen not in self.remotes:
            raise InputError(f"{self.file}: remotes.{chosen}: not there; known are {known}")
        return chosen
