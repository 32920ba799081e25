"""An archive asked by DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsr_monai.system.optional import require
from medsr_monai.volumes.dicom.headers import quietly
from medsr_monai.volumes.dicom.vocabulary import COMPRESSED
from medsr_pacs.identifiers import is_uid, normal_uid
from medsr_pacs.instances import PLAIN, VOLUMES, Instance, SeriesFolders, read_instance
from medsr_pacs.remote import ASKED, Confirmed, Found, RefusedError, UnreachableError, read_found
from medsr_pacs.storage import NETWORK_LIMIT_MB, StorageServer, application, store_event
from medsr_pacs.tls import client_context

if TYPE_CHECKING:
    from medsr_pacs.settings import DimseSettings, Network

# A requestor may propose 128 presentation contexts (their numbers are the odd ones below 256).
MOST_CONTEXTS = 128
VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # study root
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
SUCCESS, NO_RESOURCES = 0x0000, 0xA700
PENDING = (0xFF00, 0xFF01)


class DimseRemote:
    """One archive.

    Args:
        name: of it in the configuration.
        settings: where it is.
        network: our own title, and the times to wait.

    Raises:
        InputError: a certificate is none.
    """

    def __init__(self, name: str, settings: DimseSettings, network: Network) -> None:
        require("pynetdicom", "dicom")
        self.name = name
        self._settings = settings
        self._network = network
        self._tls = client_context(settings.tls) if settings.tls else None

    def echo(self) -> None:
        """C-ECHO."""
        with self._associated([(VERIFICATION, list(PLAIN))]) as association:
            self._refuse_failure("C-ECHO", association.send_c_echo())

    def find(self, level: str, query: Mapping[str, str]) -> list[Found]:
        """C-FIND in the study root model."""
        answers = self._find({"QueryRetrieveLevel": level.upper(), **dict.fromkeys(ASKED[level], ""), **query})
        return [found for found in map(read_found, answers) if is_uid(found.study)]

    def _find(self, query: Mapping[str, str]) -> list[Any]:
        from pydicom.dataset import Dataset

        identifier = Dataset()
        for keyword, value in query.items():
            setattr(identifier, keyword, value)
        answers = []
        with self._associated([(FIND, list(PLAIN))]) as association, quietly():
            status = None
            for status, answer in association.send_c_find(identifier, FIND):
                if status and status.Status in PENDING and answer is not None:
                    answers.append(answer)
            self._refuse_failure("C-FIND", status)
        return answers

    def holds(self, study: str, series: str, sop_instance: str) -> bool | None:
        """C-FIND of one image."""
        query = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": sop_instance}
        try:
            answers = self._find({"QueryRetrieveLevel": "IMAGE", **query})
        except RefusedError:  # a mere storage node that cannot be queried
            return None
        return any(normal_uid(answer.get("SOPInstanceUID", "")) == sop_instance for answer in answers)

    def fetch(self, study: str, series: str | None, folder: Path) -> SeriesFolders:
        """C-GET, or C-MOVE to ourselves where the settings say so."""
        from pydicom.dataset import Dataset

        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES" if series else "STUDY"
        identifier.StudyInstanceUID = study
        if series:
            identifier.SeriesInstanceUID = series
        folders = SeriesFolders(folder)
        if self._settings.retrieve == "move":
            self._move(identifier, folders)
        else:
            self._get(identifier, folders)
        return folders

    def _get(self, identifier: Any, folders: SeriesFolders) -> None:
        from pynetdicom import build_role, evt

        contexts = retrievable()
        roles = [build_role(uid, scp_role=True) for uid in {uid for uid, _ in contexts}]
        handlers = [(evt.EVT_C_STORE, store_event, [folders.place])]
        with self._associated([(GET, list(PLAIN)), *contexts], ext_neg=roles, evt_handlers=handlers) as association:
            self._refuse_failure("C-GET", last_status(association.send_c_get(identifier, GET)))

    def _move(self, identifier: Any, folders: SeriesFolders) -> None:
        from pynetdicom import evt

        server = StorageServer(
            application(self._network, [self._settings.ae_title]),
            (self._settings.move_host, self._settings.move_port or 0),
            [uid for uid, _ in retrievable()],
            [(evt.EVT_C_STORE, store_event, [folders.place])],
            int(NETWORK_LIMIT_MB * 1e6),
        )
        with server, self._associated([(MOVE, list(PLAIN))]) as association:
            answers = association.send_c_move(identifier, self._network.ae_title, MOVE)
            self._refuse_failure("C-MOVE", last_status(answers))

    def send(self, files: Sequence[Path], confirmed: Confirmed) -> None:
        """C-STORE of each file as it is, in one association."""
        from pynetdicom import _config

        _config.STORE_SEND_CHUNKED_DATASET = True  # as it is on the disk: neither held in memory nor encoded anew
        instances = [read_instance(file) for file in files]
        kinds = sorted({(instance.sop_class, instance.encoding) for instance in instances})
        if len(kinds) > MOST_CONTEXTS:
            raise RefusedError(
                f"{self.name}: {len(kinds)} kinds of objects are too many for one association; send less"
            )
        with self._associated([(uid, [encoding]) for uid, encoding in kinds]) as association:
            for file, instance in zip(files, instances, strict=True):
                self._store(association, file, instance)
                confirmed(file)

    def _store(self, association: Any, file: Path, instance: Instance) -> None:
        try:
            status = association.send_c_store(file)
        except ValueError:  # no context was accepted for it
            raise RefusedError(
                f"{self.name}: takes no objects of class {instance.sop_class} in encoding {instance.encoding}"
            ) from None
        except RuntimeError:
            raise UnreachableError(f"{self.name}: the connection broke off") from None
        if status and 0xB000 <= status.Status <= 0xBFFF:  # stored, with a warning
            return
        self._refuse_failure("C-STORE", status)

    def _refuse_failure(self, what: str, status: Any) -> None:
        """Anything but success; a retrieval that left something out is none."""
        if status is None or "Status" not in status:
            raise UnreachableError(f"{self.name}: no answer to {what} (timeout, or the connection broke off)")
        if status.Status == SUCCESS:
            return
        failed = status.get("NumberOfFailedSuboperations")
        some = f", {failed} instances were not sent" if failed else ""
        kind = UnreachableError if status.Status & 0xFF00 == NO_RESOURCES and what == "C-STORE" else RefusedError
        # Archives have no status of their own for what they do not have.
        hint = "; is the UID one that `medsr pacs find` lists?" if what in ("C-GET", "C-MOVE") and not failed else ""
        raise kind(f"{self.name}: {what} failed with status 0x{status.Status:04X}{some}{hint}")

    @contextmanager
    def _associated(self, contexts: Sequence[tuple[str, list[str]]], **options: Any) -> Iterator[Any]:
        from pynetdicom import evt

        settings = self._settings
        entity = application(self._network)
        # As a list: the entity itself would merge contexts of one class, and an archive chooses one encoding of each.
        options["contexts"] = [built_context(uid, encodings) for uid, encodings in contexts]
        options["evt_handlers"] = [*options.get("evt_handlers", ()), (evt.EVT_CONN_OPEN, send_at_once)]
        if self._tls is not None:
            options["tls_args"] = (self._tls, settings.host)
        association = entity.associate(
            settings.host, settings.port, ae_title=settings.ae_title, max_pdu=self._network.pdu, **options
        )
        try:
            self._refuse_no_association(association)
            yield association
        finally:
            if association.is_established:
                association.release()
            entity.shutdown()

    def _refuse_no_association(self, association: Any) -> None:
        if association.is_established:
            return
        where = f"{self.name} ({self._settings.host}:{self._settings.port})"
        if association.is_rejected:
            if association.acceptor.primitive is not None and association.acceptor.primitive.result == 0x02:
                raise UnreachableError(f"{where}: has no room for another connection now")
            raise RefusedError(
                f"{where}: refuses our AE title {self._network.ae_title}, or is not called {self._settings.ae_title}"
            )
        if association.is_aborted and association.acceptor.primitive is not None:
            raise RefusedError(f"{where}: accepts none of the kinds of objects or services asked for")
        raise UnreachableError(f"{where}: no connection; is it running, are host, port and TLS right?")


def send_at_once(event: Any) -> None:
    """Without waiting for more to send (Nagle's algorithm): that takes 40 ms an image, as each is two messages."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def built_context(uid: str, encodings: Sequence[str]) -> Any:
    """A presentation context to propose."""
    from pynetdicom import build_context

    return build_context(uid, list(encodings))


def retrievable() -> list[tuple[str, list[str]]]:
    """Classes and encodings to propose for C-GET: each encoding of volumes on its own, as an archive chooses one only.

    What is left of the 128 contexts goes to other storage classes, so that a whole study comes.
    """
    from pynetdicom import StoragePresentationContexts

    volumes = [(uid, encodings) for uid in VOLUMES for encodings in (list(PLAIN), list(COMPRESSED))]
    others = [str(context.abstract_syntax) for context in StoragePresentationContexts]
    rest = [(uid, [*PLAIN, *COMPRESSED]) for uid in others if uid not in VOLUMES]
    return [*volumes, *rest][: MOST_CONTEXTS - 1]


def last_status(answers: Iterator[tuple[Any, Any]]) -> Any:
    """The last status of a retrieval."""
    status = None
    with quietly():
        for answer in answers:
            status = answer[0]
    return status
