"""What a sender may do to a listener: it stays up, refuses with a status, and writes nowhere but in its folder."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from medsr_pacs.identifiers import token
from tests.apps.pacs.made import CountingArchive, dimse, make_image, make_series, push
from tests.apps.pacs.test_listen import Listener, derived, wait_for
from tests.orthanc import free_port

CANNOT_UNDERSTAND, MISMATCH, NO_RESOURCES = 0xC000, 0xA900, 0xA700


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """One listener for all of it: it has to survive everything, and in the end has done all that was good."""
    folder = tmp_path_factory.mktemp("hostile") / "inner"
    folder.mkdir()
    with CountingArchive(free_port()) as archive:
        listener = Listener(folder, dimse(archive._port), "max_instance_mb = 0.5\nmax_associations = 4")
        listener.good = []  # type: ignore[attr-defined]
        with listener.running():
            yield listener
            expected = set().union(*(derived(name, 1) for name in listener.good))  # type: ignore[attr-defined]
            wait_for(lambda: expected <= set(archive.stored), "all good series", 60)
        assert set(archive.stored.values()) == {1}


@pytest.fixture(autouse=True)
def it_survives(listener: Listener, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attack it takes a good series, and nothing is outside of the folder."""
    yield
    name = token(request.node.name)
    listener.good.append(name)  # type: ignore[attr-defined]
    assert push(listener.port, make_series(tmp_path / "good", series=name, n=1)) == [0]
    inner = listener.spool.parent
    assert [entry.name for entry in inner.parent.iterdir()] == ["inner"]
    assert sorted(entry.name for entry in inner.iterdir()) == ["listen.toml", "log.txt", "queue"]
    assert "Traceback" not in listener.said()


def send_raw(port: int, data: bytes, sop_instance: str, sop_class: str = CTImageStorage) -> int:
    """C-STORE bytes as they are, announced under a UID that nobody checks; -1: the connection was closed."""
    ae = AE("SENDER")
    ae.dimse_timeout = 1
    ae.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    association = ae.associate("127.0.0.1", port, ae_title="MEDSR")
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request._affected_sop_class_uid = pydicom.uid.UID(sop_class)  # the public attributes are checked
    request._affected_sop_instance_uid = pydicom.uid.UID(sop_instance)
    request.DataSet = BytesIO(data)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    answer = association.dimse.get_msg(block=True)[1]
    association._reactor_checkpoint.set()
    association.abort()
    return -1 if answer is None else int(answer.Status)


def encoded(dataset: Any) -> bytes:
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, dataset)
    return bytes(stream.getvalue())


def image_with(**values: Any) -> Any:
    image = make_image("study", "hostile", 1)
    for keyword, value in values.items():
        if keyword in image:
            image[keyword]._value = value  # without pydicom's checks
        else:
            setattr(image, keyword, value)
    return image


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_paths_in_uids(listener: Listener, keyword: str) -> None:
    for path in ("../../escaped", "/escaped", "1.2/../../x", "1.2.3\0/x", "", "1.2." + "9" * 80):
        image = image_with(**{keyword: path})
        announced = str(image.SOPInstanceUID) if keyword != "SOPInstanceUID" else "1.2.3"
        assert send_raw(listener.port, encoded(image), announced) == CANNOT_UNDERSTAND, path


@pytest.mark.parametrize("announced", ["../../escaped", "1.2.3", "x" * 200])
def test_announced_uids_that_are_not_those_inside(listener: Listener, announced: str) -> None:
    status = send_raw(listener.port, encoded(image_with()), announced)
    assert status in (MISMATCH, -1)  # pynetdicom itself may end the connection


def test_uids_with_padding_are_the_same_uids(listener: Listener) -> None:
    image = make_image("study", "padded", 1)
    sop_instance = str(image.SOPInstanceUID)
    image["SOPInstanceUID"]._value = f"{sop_instance} "
    assert send_raw(listener.port, encoded(image), sop_instance) == 0
    image["SOPInstanceUID"]._value = sop_instance
    assert send_raw(listener.port, encoded(image), sop_instance) == 0
    listener.good.append("padded")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "values", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": "2147483647"}, {"PixelData": b"\0" * 100}]
)
def test_claims_and_truncated_pixel_data(listener: Listener, values: dict[str, Any]) -> None:
    image = image_with(**values)
    assert send_raw(listener.port, encoded(image), str(image.SOPInstanceUID)) == CANNOT_UNDERSTAND


def test_truncated_data_sets(listener: Listener) -> None:
    image = image_with()
    for cut in (1, 7, 50, 300, -40):
        status = send_raw(listener.port, encoded(image)[:cut], str(image.SOPInstanceUID))
        assert status == CANNOT_UNDERSTAND, cut
    assert send_raw(listener.port, b"", str(image.SOPInstanceUID)) == -1  # pynetdicom does not answer


def test_nested_sequences_without_end(listener: Listener) -> None:
    item = struct.pack("<HH2sHL", 0x0018, 0xA001, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    image = image_with()
    head = encoded(image).split(struct.pack("<HH", 0x0020, 0x000D))[0]
    assert send_raw(listener.port, head + item * 20000, str(image.SOPInstanceUID)) == CANNOT_UNDERSTAND


def test_an_instance_above_the_limit_is_refused_and_not_held(listener: Listener) -> None:
    image = make_image("study", "large", 1, size=1024)  # 2 MB; the limit is 0.5 MB
    assert send_raw(listener.port, encoded(image), str(image.SOPInstanceUID)) == NO_RESOURCES
    assert "max_instance_mb" in listener.said()


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.2"])
def test_encodings_that_cannot_be_stored_are_not_negotiated(listener: Listener, syntax: str) -> None:
    ae = AE("SENDER")
    ae.add_requested_context(CTImageStorage, syntax)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", listener.port, ae_title="MEDSR")
    assert [context.abstract_syntax for context in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    association.release()


def test_data_in_another_encoding_than_agreed(listener: Listener) -> None:
    image = make_image("study", "liar", 1)
    ae = AE("SENDER")
    ae.add_requested_context(CTImageStorage, RLELossless)
    association = ae.associate("127.0.0.1", listener.port, ae_title="MEDSR")
    image.file_meta.TransferSyntaxUID = RLELossless  # the pixel data is not
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, image.SOPInstanceUID
    request.DataSet = BytesIO(b"\xff" * 4000)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    answer = association.dimse.get_msg(block=True)[1]
    association._reactor_checkpoint.set()
    association.release()
    assert answer.Status == CANNOT_UNDERSTAND


def test_what_is_no_dicom_connection(listener: Listener) -> None:
    huge = struct.pack(">L", 0xFFFFFFF0) + b"\0" * 5000  # announces a unit of 4 GB
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x04\0" + huge, b"\x01\0" + huge, b"\x01\0\0\0\0\x04\0\x01\0\0", b"\x01"):
        with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as connection:
            connection.sendall(sent)
            time.sleep(0.05)


def test_idle_connections_do_not_keep_others_out(listener: Listener, tmp_path: Path) -> None:
    idle = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(20)]
    assert push(listener.port, make_series(tmp_path / "in", series="beside", n=1)) == [0]
    for connection in idle:
        connection.close()


def test_more_associations_than_allowed_are_refused_for_now(listener: Listener) -> None:
    opened = []
    for _ in range(6):
        ae = AE("SENDER")
        ae.add_requested_context("1.2.840.10008.1.1")
        opened.append(ae.associate("127.0.0.1", listener.port, ae_title="MEDSR"))
    assert [association.is_established for association in opened] == [True] * 4 + [False] * 2
    for association in opened:
        association.abort()
    wait_for(lambda: can_connect(listener.port), "the connections to be free again")


def can_connect(port: int) -> bool:
    ae = AE("SENDER")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port, ae_title="MEDSR")
    was_established = bool(association.is_established)
    if was_established:
        association.release()
    return was_established


def test_strangers_are_refused(listener: Listener, tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", series="stranger", n=1)
    before = listener.names("incoming")
    assert push(listener.port, files, title="STRANGER") == []
    assert push(listener.port, files, called="ANOTHER") == []
    assert listener.names("incoming") == before
