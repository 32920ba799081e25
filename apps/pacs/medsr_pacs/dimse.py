"""An archive asked by DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import StoragePresentationContexts, _config, build_context, build_role, evt

from medsr_monai.volumes.dicom.headers import quietly
from medsr_monai.volumes.dicom.vocabulary import COMPRESSED
from medsr_pacs.identifiers import is_uid, normal_uid
from medsr_pacs.instances import ENCODINGS, PLAIN, VOLUMES, SeriesFolders, read_instance
from medsr_pacs.remote import ASKED, Confirmed, Found, RefusedError, UnreachableError, read_found
from medsr_pacs.settings import DimseSettings, Network
from medsr_pacs.storage import NO_RESOURCES, SUCCESS, VERIFICATION, application, serving, take
from medsr_pacs.tls import client_context

# Classes with their encodings.
Kinds = Sequence[tuple[str, Sequence[str]]]
# A requestor may propose 128 presentation contexts (their numbers are the odd ones below 256).
MOST_CONTEXTS = 128
FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # study root
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
LONGEST_BYTES = 4e9  # of an instance that an archive sends
PENDING = (0xFF00, 0xFF01)


class DimseRemote:
    """One archive."""

    def __init__(self, name: str, settings: DimseSettings, network: Network) -> None:
        self.name = name
        self._settings = settings
        self._network = network
        self._tls = client_context(settings.tls) if settings.tls else None

    def echo(self) -> None:
        """C-ECHO."""
        with self._associated([(VERIFICATION, PLAIN)]) as association:
            self._refuse_failure("C-ECHO", [(association.send_c_echo(), None)])

    def find(self, level: str, query: Mapping[str, str]) -> list[Found]:
        """C-FIND in the study root model."""
        answers = self._find({"QueryRetrieveLevel": level.upper(), **dict.fromkeys(ASKED[level], ""), **query})
        return [found for found in map(read_found, answers) if is_uid(found.study)]

    def _find(self, query: Mapping[str, str]) -> list[Any]:
        identifier = Dataset()
        for keyword, value in query.items():
            setattr(identifier, keyword, value)
        with self._associated([(FIND, PLAIN)]) as association, quietly():
            answers = list(association.send_c_find(identifier, FIND))
        self._refuse_failure("C-FIND", answers)
        return [answer for status, answer in answers if status.Status in PENDING and answer is not None]

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
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES" if series else "STUDY"
        identifier.StudyInstanceUID = study
        if series:
            identifier.SeriesInstanceUID = series
        folders = SeriesFolders(folder)
        handlers = [(evt.EVT_C_STORE, take, [folders.keep])]
        contexts = retrievable()
        classes = [uid for uid, _ in contexts]
        if self._settings.retrieve == "get":
            roles = [build_role(uid, scp_role=True) for uid in set(classes)]
            with self._associated([(GET, PLAIN), *contexts], handlers, ext_neg=roles) as association, quietly():
                self._refuse_failure("C-GET", association.send_c_get(identifier, GET))
            return folders
        entity = application(self._network, [self._settings.ae_title])
        address = (self._settings.move_host, self._settings.move_port or 0)
        server = serving(entity, address, classes, handlers, LONGEST_BYTES)
        with server, self._associated([(MOVE, PLAIN)]) as association, quietly():
            self._refuse_failure("C-MOVE", association.send_c_move(identifier, self._network.ae_title, MOVE))
        return folders

    def send(self, files: Sequence[Path], confirmed: Confirmed) -> None:
        """C-STORE of each file as it is, in one association."""
        _config.STORE_SEND_CHUNKED_DATASET = True  # as it is on the disk: neither held in memory nor encoded anew
        instances = [read_instance(file) for file in files]
        kinds = sorted({(instance.sop_class, instance.encoding) for instance in instances})
        if len(kinds) > MOST_CONTEXTS:
            raise RefusedError(
                f"{self.name}: {len(kinds)} kinds of objects are too many for one association; send less"
            )
        with self._associated([(uid, [encoding]) for uid, encoding in kinds]) as association:
            for file, instance in zip(files, instances, strict=True):
                try:
                    status = association.send_c_store(file)
                except ValueError:  # no context was accepted for it
                    kind = f"class {instance.sop_class} in encoding {instance.encoding}"
                    raise RefusedError(f"{self.name}: takes no objects of {kind}") from None
                except RuntimeError:
                    raise UnreachableError(f"{self.name}: the connection broke off") from None
                if not status or not 0xB000 <= status.Status <= 0xBFFF:  # stored, with a warning
                    self._refuse_failure("C-STORE", [(status, None)])
                confirmed(file)

    def _refuse_failure(self, what: str, answers: Iterable[tuple[Any, Any]]) -> None:
        """Anything but success at the end; a retrieval that left something out is none."""
        status = None
        for status, _ in answers:  # noqa: B007  the last one tells
            continue
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
    def _associated(self, kinds: Kinds, handlers: Sequence[tuple] = (), **options: Any) -> Iterator[Any]:
        settings = self._settings
        entity = application(self._network)
        if self._tls is not None:
            options["tls_args"] = (self._tls, settings.host)
        association = entity.associate(
            settings.host,
            settings.port,
            ae_title=settings.ae_title,
            max_pdu=self._network.pdu,
            # Not through the entity: it would merge contexts of one class, of which an archive chooses one encoding.
            contexts=[build_context(uid, list(encodings)) for uid, encodings in kinds],
            evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, send_at_once)],
            **options,
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


def retrievable() -> Kinds:
    """Classes and encodings to propose for C-GET: each encoding of volumes on its own, as an archive chooses one only.

    What is left of the 128 contexts goes to other storage classes, so that a whole study comes.
    """
    volumes = [(uid, encodings) for uid in VOLUMES for encodings in (PLAIN, COMPRESSED)]
    others = [str(context.abstract_syntax) for context in StoragePresentationContexts]
    return [*volumes, *((uid, ENCODINGS) for uid in others if uid not in VOLUMES)][: MOST_CONTEXTS - 1]
