"""UIDs, AE titles and addresses: checked before anything is done with them, shortened where they are logged."""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_address

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.vocabulary import MAX_UID

UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
UID_IN_TEXT = re.compile(r"\b\d+(?:\.\d+){4,}\b")
# DICOM PS3.5, 6.2: 16 characters of the default repertoire without backslash and control characters; not only spaces.
AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
# Instead of the titles that may send.
ANYONE = "*"


def normal_uid(value: object) -> str:
    """A UID as text, without the padding that senders put behind it: NULs by the standard, spaces by mistake."""
    return str(value).rstrip("\0 ").lstrip(" ")


def is_uid(text: str) -> bool:
    """Whether it is a UID by the standard's grammar (PS3.5, 9.1), so that it may become part of a path.

    The core reads files whose UIDs have leading zeros; over the network they are refused.
    """
    return len(text) <= MAX_UID and UID.fullmatch(text) is not None


def checked_uid(name: str, uid: str) -> str:
    """A UID from the command line."""
    if not is_uid(uid):
        raise InputError(f"--{name} {uid}: must be a UID, digits and dots, {MAX_UID} characters at most")
    return uid


def is_ae_title(text: str) -> bool:
    """Whether a DICOM application may have this title."""
    return AE_TITLE.fullmatch(text) is not None and bool(text.strip())


def is_ip(text: str) -> bool:
    """Whether it is an address of the internet protocol."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    return ip_address(host).is_loopback if is_ip(host) else host == "localhost"


def token(*uids: str) -> str:
    """Sixteen hexadecimal digits that stand for UIDs in logs and as names in the queue."""
    return hashlib.sha256("|".join(uids).encode()).hexdigest()[:16]


def without_uids(text: str) -> str:
    """The text with every UID replaced by its :func:`token`; addresses of four numbers stay."""
    return UID_IN_TEXT.sub(lambda found: token(found[0]), text)
