"""Encrypted all the way: sender to listener to archive, with certificates made here."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from medsr_monai.system.errors import InputError
from medsr_pacs.configuration import open_remote, read_configuration
from medsr_pacs.settings import ClientTls, ServerTls
from medsr_pacs.tls import client_context, server_context
from tests.apps.pacs.made import CountingArchive, dimse, make_series, push
from tests.apps.pacs.test_listen import Listener, derived, wait_for
from tests.orthanc import free_port

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(not OPENSSL, reason="openssl is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem and client.pem, signed by it, with keys; stranger.pem, signed by itself."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "stranger"):
        openssl(*new, "-x509", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    (folder / "san.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san.cnf", "-days", "2"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return folder


def files_of(folder: Path, name: str) -> dict[str, Path]:
    return {"ca": folder / "ca.pem", "certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}


def test_a_whole_encrypted_round_and_who_is_kept_out(certificates: Path, tmp_path: Path) -> None:
    paths = {name: certificates / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")}
    ours = "\n".join(f'{key} = "{paths[name]}"' for key, name in
                     {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"}.items())  # fmt: skip
    served = "\n".join(f'{key} = "{paths[name]}"' for key, name in
                       {"ca": "ca.pem", "certificate": "server.pem", "key": "server.key"}.items())  # fmt: skip
    files = make_series(tmp_path / "in", n=2)
    with CountingArchive(free_port(), server_context(ServerTls(**files_of(certificates, "server")))) as archive:
        destination = f"{dimse(archive._port)}\n[remotes.destination.tls]\n{ours}"
        listener = Listener(tmp_path, destination, f"[listen.tls]\n{served}")
        with listener.running():
            assert push(listener.port, files) == []  # not encrypted
            without = ClientTls(ca=certificates / "ca.pem")
            assert push(listener.port, files, tls=client_context(without)) == []  # no certificate
            stranger = ClientTls(**files_of(certificates, "stranger"))
            assert push(listener.port, files, tls=client_context(stranger)) == []  # another's certificate
            assert not listener.names("incoming")
            assert push(listener.port, files, tls=client_context(ClientTls(**files_of(certificates, "client")))) == [
                0,
                0,
            ]
            wait_for(lambda: set(archive.stored) == derived("series", 2), "the derived series")
        assert "with TLS" in listener.said()


def test_an_archive_with_a_certificate_that_nobody_trusts_is_not_used(certificates: Path, tmp_path: Path) -> None:
    with CountingArchive(free_port(), server_context(ServerTls(**files_of(certificates, "server")))) as archive:
        file = tmp_path / "pacs.toml"
        tls = f'[remotes.pacs.tls]\nca = "{certificates / "stranger.pem"}"'
        file.write_text(f"connect_timeout = 3\n[remotes.pacs]\n{dimse(archive._port)}\n{tls}")
        with pytest.raises(InputError, match=r"pacs \(127.0.0.1:\d+\): no connection; .* TLS"):
            open_remote(read_configuration(file)).echo()


def test_files_that_are_no_certificates_are_named(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(InputError, match=r"no.pem: no certificate in PEM format"):
        client_context(ClientTls(ca=tmp_path / "no.pem"))
    with pytest.raises(InputError, match=r"server.pem: no certificate in PEM format that the key .*client.key fits"):
        server_context(ServerTls(**{**files_of(certificates, "server"), "key": certificates / "client.key"}))


def test_clients_without_a_certificate_only_where_that_is_said(certificates: Path) -> None:
    tls = ServerTls(**{**files_of(certificates, "server"), "ca": None}, client_certificate="none")
    assert server_context(tls).verify_mode == ssl.CERT_NONE
    assert server_context(ServerTls(**files_of(certificates, "server"))).verify_mode == ssl.CERT_REQUIRED
    assert server_context(tls).minimum_version >= ssl.TLSVersion.TLSv1_2
