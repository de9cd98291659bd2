"""The server: the standard library's, with bounds on what clients may take."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from eram._web.config import WebConfig
from eram._web.connections import Connection, Connections
from eram._web.database import Database
from eram._web.handler import Handler
from eram._web.routes import Routes
from eram._web.security import Guard

logger = logging.getLogger(__name__)

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Server(ThreadingHTTPServer):
    """Serves the page.

    Args:
        config: the options.
        database: where eram is.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, config: WebConfig, database: Database) -> None:
        self.address_family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        super().__init__((config.host, config.port), Handler)  # binds and listens
        self.config = config
        self.database = database
        self.connections = Connections()
        self.guard = Guard(config, self.port)
        self.routes = Routes(config, database, self.guard)
        self._admitted: dict[int, Connection] = {}
        self._stopped = threading.Event()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where the page is, as seen from here."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.port}{self.config.base_path}/"

    def server_bind(self) -> None:
        """Take the port; unlike the library's, without asking who has which name."""
        # Without it a server cannot be started anew for a minute.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def start(self) -> None:
        """Serve, in threads of its own."""
        for target in (self.serve_forever, lambda: self.connections.watch(self._stopped)):
            threading.Thread(target=target, name="eram-web", daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and leave nothing running in the database."""
        self._stopped.set()
        # It waits for the loop, which looks up twice a second.
        threading.Thread(target=self.shutdown, daemon=True).start()
        self.server_close()
        self.connections.close()
        self.database.close()

    def server_close(self) -> None:
        """Close what it listens on; its threads are daemons, and are not waited for."""
        self.socket.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection in, if there is room."""
        conn = self.connections.admit(request)
        if conn is None:
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(_REFUSAL)
            self.shutdown_request(request)
            return
        self._admitted[id(request)] = conn
        super().process_request(request, client_address)

    def connection_of(self, request: Any) -> Connection:
        """Return what is known of a connection."""
        return self._admitted[id(request)]

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        if (conn := self._admitted.pop(id(request), None)) is not None:
            self.connections.dismiss(conn)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the library wants it
        """Note what went wrong with a connection; that a client went away is nothing."""
        logger.debug("a connection has ended: %r", sys.exception())
