"""Encrypted connections: what our files in PEM format become for Python's ``ssl``."""

from __future__ import annotations

import ssl

from medsr_monai.system.errors import InputError
from medsr_pacs.settings import ClientTls, ServerTls


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """For connecting to an archive: its certificate must be signed by `ca`, or by one that the system trusts."""
    return _loaded(ssl.Purpose.SERVER_AUTH, tls, tls.check_hostname)


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """For listening; with ``client_certificate = "required"`` only clients with a certificate that `ca` signed."""
    context = _loaded(ssl.Purpose.CLIENT_AUTH, tls, False)
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_certificate == "required" else ssl.CERT_NONE
    return context


def _loaded(purpose: ssl.Purpose, tls: ClientTls | ServerTls, check_hostname: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=str(tls.ca) if tls.ca else None)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"{tls.ca}: no certificate in PEM format ({type(error).__name__})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    if tls.certificate is not None:
        try:
            # A key with a password would make OpenSSL ask for it at a terminal that a service has not.
            context.load_cert_chain(str(tls.certificate), str(tls.key), password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            what = f"{tls.certificate}: no certificate in PEM format that the key {tls.key} fits"
            raise InputError(f"{what} ({type(error).__name__}); keys with a password are not supported") from None
    return context
