"""pynetdicom's entity and server with what they lack: limits of number, time and length before an association exists.

Imported only once pynetdicom is known to be there.
"""

from __future__ import annotations

import socket
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medsr_pacs.journal import say

# A P-DATA unit may be as long as we said, others (an association's request) are some kilobytes.
PDU_SLACK = 65536
# Connections that have not asked for an association yet.
SILENT_CONNECTIONS = 64


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
        kwargs["request_handler"] = GuardedHandler
        super().__init__(*args, **kwargs)

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
