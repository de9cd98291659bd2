"""Something between a client and the server: a pooler, or a network that breaks."""

from __future__ import annotations

import contextlib
import socket
import threading

import psycopg


class Link:
    """One connection through a proxy; a subclass changes what passes, or raises to break it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def to_server(self, data: bytes) -> bytes:
        return data

    def to_client(self, data: bytes) -> bytes:
        return data


class BrokenLinkError(OSError):
    """The link is to break here."""


class Proxy:
    """Passes on what clients and the server say to each other."""

    def __init__(self, conn: psycopg.Connection, link: type[Link]) -> None:
        self._host, self._port = conn.info.host, conn.info.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._link = link
        self._sockets: list[socket.socket] = []
        self.sent = bytearray()
        # The process of each session, by the secret that a request to cancel has to know.
        self.pids: dict[bytes, bytes] = {}
        self.is_broken = False
        _start(self._accept)

    def dsn(self, dsn: str) -> str:
        """The way to the same database through this proxy."""
        return psycopg.conninfo.make_conninfo(
            dsn,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            _shut(each)

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._sockets += [client, server]
                link = self._link(self)
                _start(self._pass_on, client, server, link.to_server)
                _start(self._pass_on, server, client, link.to_client)

    def _pass_on(self, source, target, change) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(change(data))
        _shut(source)
        _shut(target)


class PoolerLink(Link):
    """Gives the client another backend's number than the server's, as poolers do."""

    KEY_DATA = b"K\0\0\0\x0c"
    CANCEL_REQUEST = b"\0\0\0\x10\x04\xd2\x16\x2e"
    OTHER_PID = (4_000_000).to_bytes(4, "big")

    def to_server(self, data):
        self.proxy.sent += data
        if data.startswith(self.CANCEL_REQUEST):
            secret = data[12:]
            return self.CANCEL_REQUEST + self.proxy.pids[secret] + secret
        return data

    def to_client(self, data):
        before, key_data, after = data.partition(self.KEY_DATA)
        if not key_data:
            return data
        self.proxy.pids[after[4:8]] = after[:4]
        return before + key_data + self.OTHER_PID + after[4:]


class FirewallLink(Link):
    """Lets nothing pass once the firewall has dropped it, nor before the firewall is open."""

    proxy: Firewall

    def __init__(self, proxy: Firewall) -> None:
        super().__init__(proxy)
        self.number = proxy.drop_count

    def to_server(self, data):
        self.proxy.is_open.wait()
        if self.number == self.proxy.drop_count:
            return data
        # Taken, and never heard of again.
        return b""

    to_client = to_server


class Firewall(Proxy):
    """Can drop what passes without closing a connection: each end thinks that the other is busy.

    When it is mended new connections pass; what was dropped stays dropped, and by then the server
    has noticed.
    """

    def __init__(self, conn: psycopg.Connection) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.drop_count = 0
        self._dropped: list[socket.socket] = []
        super().__init__(conn, FirewallLink)

    def drop(self, *, is_noticed: bool) -> None:
        """Let nothing pass from now on; the server notices it at once, or in the end."""
        self.drop_count += 1
        self.is_open.clear()
        self._dropped = self._sockets[1::2]
        if is_noticed:
            self._let_notice()

    def mend(self) -> None:
        """Let new connections pass."""
        self._let_notice()
        self.is_open.set()

    def _let_notice(self) -> None:
        """End the server's side of what was dropped, as its keepalives do."""
        for each in self._dropped:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.mend()
        super().close()

    def _pass_on(self, source, target, change) -> None:
        before = self.drop_count
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if passed := change(data):
                    target.sendall(passed)
        # The end of one side is not told to the other, either.
        if before == self.drop_count:
            _shut(target)
        _shut(source)


class CutLink(Link):
    """Breaks when the server answers the first fetch of all; its claim is committed by then."""

    is_prepared = is_fetching = False

    def to_server(self, data):
        self.is_fetching = self.is_prepared and not self.proxy.is_broken
        self.is_prepared = b"eram_fetch" in data
        return data

    def to_client(self, data):
        if self.is_fetching:
            self.proxy.is_broken = True
            raise BrokenLinkError
        return data


def _start(target, *args) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
