"""A server that takes C-STORE, and does not trust who sends: lengths are bounded before memory is taken."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, build_context, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medsr_monai.system.errors import InputError
from medsr_pacs.identifiers import ANYONE, normal_uid
from medsr_pacs.instances import ENCODINGS, Instance, parse_instance
from medsr_pacs.journal import say
from medsr_pacs.settings import Network

SUCCESS, LEFT_ASIDE, NO_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xB000, 0xA700, 0xA900, 0xC000
# A P-DATA unit may be as long as we said, others (an association's request) are some kilobytes.
PDU_SLACK = 65536
# Connections that have not asked for an association yet.
SILENT_CONNECTIONS = 64
VERIFICATION = "1.2.840.10008.1.1"


class Entity(AE):
    """An entity in which connections without an association do not use up the associations."""

    @property
    def maximum_associations(self) -> int:
        """Compared with the number of all connections, of which one is just asking."""
        others = sum(not association.is_established for association in self.active_associations) - 1
        return self._maximum_associations + max(others, 0)

    @maximum_associations.setter
    def maximum_associations(self, value: int) -> None:
        self._maximum_associations = value


class GuardedHandler(RequestHandler):
    """Refuses a protocol data unit that is longer than agreed before it is held."""

    def _create_association(self) -> Any:
        association = super()._create_association()
        connection: Any = association.dul.socket
        receive, most = connection.recv, self.ae.maximum_pdu_size + PDU_SLACK

        def receive_bounded(n_bytes: int) -> bytearray:
            if n_bytes > most:  # up to 4 GB may be announced, and would be held
                raise OSError("a protocol data unit is longer than agreed")
            return receive(n_bytes)

        connection.recv = receive_bounded
        return association


class GuardedServer(ThreadedAssociationServer):
    """One silent client, in a TLS handshake or before its request, keeps no other out."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "request_handler": GuardedHandler})

    def get_request(self) -> tuple[socket.socket, Any]:
        """No TLS handshake here: one silent client would keep all the others out."""
        listening: Any = self.socket
        connection, address = listening.accept()
        connection.settimeout(self.ae.network_timeout)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Silent connections are closed in time; until then they are bounded too."""
        return len(self.ae.active_associations) < self.ae.maximum_associations + SILENT_CONNECTIONS

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.ssl_context:
            try:
                request.settimeout(self.ae.acse_timeout)
                request = self.ssl_context.wrap_socket(request, server_side=True)
                request.settimeout(self.ae.network_timeout)
            except OSError as error:
                say(f"refused a connection: no TLS handshake ({type(error).__name__})")
                request.close()
                return
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line instead of a traceback with an address."""
        say("a connection could not be served")


def application(network: Network, calling: Sequence[str] = (), associations: int = 10) -> Any:
    """Our application entity; it takes connections from the AE titles `calling`, none where there are none."""
    ae = Entity(ae_title=network.ae_title)
    ae.maximum_associations = associations
    ae.maximum_pdu_size = network.pdu
    ae.connection_timeout = network.connect_timeout
    ae.acse_timeout = network.acse_timeout
    ae.dimse_timeout = network.dimse_timeout
    ae.network_timeout = network.network_timeout
    ae.require_calling_aet = [title for title in calling if title != ANYONE]
    ae.require_called_aet = bool(calling)
    return ae


class Refusal(Exception):
    """An arriving instance is not taken; what the sender gets is the DICOM status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def checked_instance(event: Any) -> Instance:
    """Who an instance is that arrives with a C-STORE."""
    if getattr(event.assoc, "medsr_dropped", 0):
        event.assoc.medsr_dropped = 0
        raise Refusal(NO_RESOURCES, f"larger than {event.assoc.medsr_limit / 1e6:g} MB (max_instance_mb)")
    if event.request.DataSet is None:
        raise Refusal(NOT_UNDERSTOOD, "there is no data set")
    try:
        instance = parse_instance(event.request.DataSet, str(event.context.transfer_syntax))
    except InputError as error:
        raise Refusal(NOT_UNDERSTOOD, str(error)) from None
    said = (normal_uid(event.request.AffectedSOPClassUID), normal_uid(event.request.AffectedSOPInstanceUID))
    if said != (instance.sop_class, instance.sop_instance):
        raise Refusal(MISMATCH, "its UIDs are not those that were announced")
    return instance


def take(event: Any, keep: Callable[[Instance, Any, Any], None]) -> int:
    """Handler of a C-STORE: `keep` gets instance, buffer and connection, and may refuse; returns a DICOM status."""
    try:
        keep(checked_instance(event), event.request.DataSet.getbuffer(), event.assoc)
    except Refusal as error:
        say(f"an instance is not taken: {error}")
        return error.status
    except OSError as error:
        say(f"an instance is not taken: {error.strerror or type(error).__name__}")
        return NO_RESOURCES
    return SUCCESS


@contextmanager
def serving(
    entity: Any,
    address: tuple[str, int],
    classes: Iterable[str],
    handlers: Sequence[tuple],
    instance_bytes: float,
    tls: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """A storage SCP on a thread of its own.

    Args:
        entity: from :func:`application`.
        address: host and port; port 0 takes a free one.
        classes: UIDs of the storage classes that are taken.
        handlers: pynetdicom's pairs and triples of event and handler.
        instance_bytes: the longest data set; of a longer one the rest is thrown away as it comes, and it is refused.
        tls: for encrypted connections only.

    Yields:
        Its port.

    Raises:
        InputError: the address cannot be had.
    """
    contexts = [build_context(VERIFICATION)]
    for uid in dict.fromkeys(classes):
        contexts.append(build_context(uid, list(ENCODINGS)))
        contexts[-1].scu_role, contexts[-1].scp_role = False, True
    events = [*handlers, (evt.EVT_PDU_RECV, drop_what_is_too_long, [instance_bytes])]
    try:
        server = entity.make_server(
            address, contexts=contexts, ssl_context=tls, evt_handlers=events, server_class=GuardedServer
        )
    except OSError as error:
        raise InputError(f"{address[0]}:{address[1]}: cannot listen there ({error.strerror or error})") from None
    entity._servers.append(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        entity.shutdown()
        thread.join(5)


def drop_what_is_too_long(event: Any, instance_bytes: float) -> None:
    """Of a data set longer than the limit, keep what is below it; :func:`checked_instance` then refuses it."""
    association = event.assoc
    for item in getattr(event.pdu, "presentation_data_value_items", ()):
        value = item.presentation_data_value
        if value[0] & 1:  # of a command; a real one is a few hundred bytes
            commands = association.medsr_commands = getattr(association, "medsr_commands", 0) + len(value)
            if commands > PDU_SLACK:
                item.presentation_data_value = b"\x01"
                association.dul.event_queue.put("Evt19")  # an invalid unit: the connection is aborted
            if value[0] & 2:
                association.medsr_commands, association.medsr_got, association.medsr_limit = 0, 0, instance_bytes
            continue
        association.medsr_got = getattr(association, "medsr_got", 0) + len(value) - 1
        if association.medsr_got > instance_bytes:
            association.medsr_dropped = getattr(association, "medsr_dropped", 0) + len(value) - 1
            item.presentation_data_value = value[:1]
