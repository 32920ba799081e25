"""The configuration: the example is valid, and every mistake is one line that names file and key."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from medsr_monai.system.errors import InputError
from medsr_pacs.configuration import open_remote, read_configuration
from medsr_pacs.settings import DimseSettings, ListenSettings, Network, WebSettings
from tests.bundle.commands.test_cli import medsr

EXAMPLE = Path(__file__).parents[3] / "docs" / "pacs.example.toml"
REMOTE = '[remotes.pacs]\nkind = "dimse"\nhost = "127.0.0.1"\nport = 104\nae_title = "PACS"\n'
WEB = '[remotes.web]\nkind = "dicomweb"\nurl = "https://pacs.example/dicom-web"\n'
LISTEN = '[listen]\nfolder = "queue"\ndestination = "pacs"\ncalling_ae_titles = ["CT1"]\n'


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        (tmp_path / "pacs.toml").write_text(text)
        return tmp_path / "pacs.toml"

    return write


def test_the_example_is_valid_and_states_the_defaults() -> None:
    configuration = read_configuration(EXAMPLE)
    pacs, web = configuration.remotes["pacs"], configuration.remotes["web"]
    assert isinstance(pacs, DimseSettings) and isinstance(web, WebSettings) and configuration.listen is not None
    assert configuration.choose(None) == "pacs"
    for kind, given in (
        (Network, configuration),
        *((type(one), one) for one in (pacs, web, configuration.listen)),
    ):
        for name, field in kind.model_fields.items():
            if not field.is_required():
                assert getattr(given, name) == field.default, name
    assert configuration.listen.folder == EXAMPLE.parent / "medsr-queue"
    assert isinstance(configuration.listen, ListenSettings) and configuration.listen.host == "127.0.0.1"


def test_what_the_example_comments_out_is_valid_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace('token_env = "PACS_TOKEN"', "").replace("move_port = 11113", "move_port = 11113")
    for name in ("pacs-ca.pem", "medsr.pem", "medsr.key", "clients-ca.pem"):
        (tmp_path / name).write_text("")
    (tmp_path / "pacs.toml").write_text(text)
    configuration = read_configuration(tmp_path / "pacs.toml")
    assert configuration.listen and configuration.listen.tls and configuration.listen.tls.ca
    assert configuration.remotes["web"].user_env == "PACS_USER"  # type: ignore[union-attr]
    assert set(configuration.upscale.model_dump(exclude_none=True)) == {
        "bundle",
        "profile",
        "consistency",
        "perception",
        "device",
        "memory_gb",
        "uneven",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "remotes: is missing"),
        ("remotes = 3", "remotes: must be a table"),
        ("[remotes", "no valid TOML"),
        (REMOTE + "timeout = 3", "remotes.pacs.timeout: unknown key"),
        (REMOTE + 'ae_titel = "X"', "remotes.pacs.ae_titel: unknown key; did you mean ae_title?"),
        ('ae_titel = "X"\n' + REMOTE, "ae_titel: unknown key; did you mean ae_title?"),
        (REMOTE.replace("104", '"104"'), "remotes.pacs.port: must be a whole number from 1 to 65535"),
        (REMOTE.replace("104", "true"), "remotes.pacs.port: must be a whole number"),
        (REMOTE.replace("104", "0"), "remotes.pacs.port: must be a whole number"),
        (REMOTE.replace("port = 104\n", ""), "remotes.pacs.port: is missing"),
        (REMOTE.replace('"PACS"', '"A title of 17 ch"+"s"'.replace('"+"', "")), "remotes.pacs.ae_title: must be an AE"),
        (REMOTE.replace('"PACS"', '"A\\\\B"'), "remotes.pacs.ae_title: must be an AE title"),
        (REMOTE.replace('"PACS"', '"  "'), "remotes.pacs.ae_title: must be an AE title"),
        (REMOTE.replace('"dimse"', '"dimsel"'), "remotes.pacs.kind: must be one of dimse, dicomweb"),
        (REMOTE + 'retrieve = "move"', "remotes.pacs.move_port: is missing"),
        (REMOTE + '[remotes.pacs.tls]\nca = "missing.pem"', "remotes.pacs.tls.ca: missing.pem: no such file"),
        (REMOTE + '[remotes.pacs.tls]\ncertificate = "pacs.toml"', "remotes.pacs.tls.key: is missing"),
        ("pdu = 1\n" + REMOTE, "pdu: must be a whole number from 4096 to 1048576"),
        ("dimse_timeout = nan\n" + REMOTE, "dimse_timeout: must be a number"),
        ('default_remote = "x"\n' + REMOTE, "default_remote: must be one of pacs"),
        (WEB.replace("https://pacs.example", "ftp://x"), "remotes.web.url: must be an address"),
        (WEB.replace("https://", "https://me:secret@"), "remotes.web.url: must be an address"),
        (WEB + 'password = "hunter2"', "remotes.web.password: secrets do not belong in a file; give password_env"),
        (WEB + 'token = "hunter2"', "remotes.web.token: secrets do not belong in a file; give token_env"),
        (WEB + 'token_env = "eyJhbGciOi.hunter2"', "remotes.web.token_env: must be the NAME"),
        (WEB + 'user_env = "PACS_USER"', "remotes.web.password_env: is missing"),
        (
            WEB.replace("https", "http") + 'token_env = "PACS_TOKEN"',
            "remotes.web.url: would send the secret unencrypted to another machine",
        ),
        (REMOTE + LISTEN.replace('"pacs"', '"nobody"'), "listen.destination: must be one of the remotes (pacs)"),
        (REMOTE + LISTEN.replace('["CT1"]', "[]"), "listen.calling_ae_titles: must be a list"),
        (REMOTE + LISTEN.replace('calling_ae_titles = ["CT1"]', ""), "listen.calling_ae_titles: is missing"),
        (REMOTE + LISTEN + 'host = "everywhere"', "listen.host: must be an address of this machine"),
        (REMOTE + LISTEN + "max_serie = 3", "listen.max_serie: unknown key; did you mean max_series?"),
        (REMOTE + LISTEN + '[listen.tls]\nca = "pacs.toml"', "listen.tls.certificate: is missing"),
        (
            REMOTE + LISTEN + '[listen.tls]\ncertificate = "pacs.toml"\nkey = "pacs.toml"',
            "listen.tls.ca: is missing",
        ),
        (REMOTE + '[upscale]\nprofil = "box"', "upscale.profil: unknown key; did you mean profile?"),
        (REMOTE + '[upscale]\nprofile = "round"', "upscale.profile: must be one of box, gaussian, kspace"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, message: str, written: Any) -> None:
    file = written(text)
    with pytest.raises(InputError) as error:
        read_configuration(file)
    said = str(error.value)
    assert said.startswith(f"{file}: ") and message in said and "\n" not in said
    assert "hunter2" not in said


def test_a_missing_file_a_missing_secret_and_a_choice_that_is_open(
    written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDSR_PACS_CONFIG", raising=False)
    assert medsr(monkeypatch, "pacs", "echo") == 2
    assert "pacs.toml: no such file; give --config FILE" in capsys.readouterr().err
    written(REMOTE + WEB + 'token_env = "MEDSR_NO_SUCH_TOKEN"')
    assert medsr(monkeypatch, "pacs", "echo") == 2
    assert "choose with --remote NAME" in capsys.readouterr().err
    assert medsr(monkeypatch, "pacs", "echo", "--remote", "x") == 2
    assert "known are pacs, web" in capsys.readouterr().err
    assert medsr(monkeypatch, "pacs", "echo", "--remote", "web") == 2
    assert "the environment variable MEDSR_NO_SUCH_TOKEN is not set" in capsys.readouterr().err
    assert medsr(monkeypatch, "pacs", "listen") == 2
    assert "listen: is missing" in capsys.readouterr().err
    assert medsr(monkeypatch, "pacs", "listen", "--speed", "3") == 2


def test_a_secret_is_in_no_representation(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_TOKEN", "hunter2")
    configuration = read_configuration(written(WEB + 'token_env = "PACS_TOKEN"'))
    assert "hunter2" not in repr(configuration) + repr(vars(open_remote(configuration)))


def test_a_port_or_a_folder_that_is_taken_is_said(
    written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = written(REMOTE + LISTEN + f"port = {port}")
        assert medsr(monkeypatch, "pacs", "listen", "--config", file) == 2
        assert f"127.0.0.1:{port}: cannot listen there" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    file = written(REMOTE + LISTEN.replace('"queue"', '"file"') + "port = 0")
    assert medsr(monkeypatch, "pacs", "listen", "--config", file) == 2
    assert "cannot be the queue's folder" in capsys.readouterr().err
