"""The network between a process and the server, which can be cut, silent, deaf or slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path


class Link:
    """One connection that passes through; a silent network swallows what is sent over it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.has_swallowed = False

    def close(self) -> None:
        for each in self.ends:
            shut(each)


class Network:
    """Passes on what one process and the server say to each other.

    Args:
        directory: where the server's socket lies; the server need not be up.
        port: the number in the socket's name.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self._server = str(directory / f".s.PGSQL.{port}")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._waiting: list[socket.socket] = []  # who connects while nothing is answered
        self._is_cut = self._is_silent = self._is_deaf = False
        self._delay = 0.0
        _start(self._accept)

    def dsn(self, user: str) -> str:
        """The way through it, for a role of the server's."""
        port = self._listener.getsockname()[1]
        return (
            f"host=127.0.0.1 port={port} user={user} dbname=postgres"
            " sslmode=disable gssencmode=disable"
        )

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._is_cut = True
        self._close(self._take())

    def silence(self) -> None:
        """Swallow everything without a word: neither end learns of it."""
        self._is_silent = True

    def deafen(self) -> None:
        """Swallow what the server says: it does what it is asked to, and nobody hears of it."""
        self._is_deaf = True

    def slow(self, seconds: float) -> None:
        """Take so long with each piece."""
        self._delay = seconds

    def mend(self) -> None:
        """Let everything pass; connections of which something was swallowed end now."""
        self._is_cut = self._is_silent = self._is_deaf = False
        self._delay = 0.0
        self._close({link for link in self._take(keep=True) if link.has_swallowed})
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            shut(each)

    def close(self) -> None:
        shut(self._listener)
        self.mend()
        self._close(self._take())

    def _take(self, *, keep: bool = False) -> set[Link]:
        with self._lock:
            links = set(self._links)
            if not keep:
                self._links.clear()
            return links

    def _close(self, links: set[Link]) -> None:
        for link in links:
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_silent:
                    self._waiting.append(client)
                elif self._is_cut:
                    shut(client)
                else:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:  # it is down
            shut(server)
            shut(client)
            return
        link = Link(client, server)
        with self._lock:
            self._links.add(link)
        if self._is_cut:  # in the meantime
            link.close()
        _start(self._pass_on, link, client, server)
        _start(self._pass_on, link, server, client)

    def _pass_on(self, link: Link, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._delay:
                    time.sleep(self._delay)
                is_answer = source is link.ends[1]
                if self._is_silent or (is_answer and (self._is_deaf or link.has_swallowed)):
                    link.has_swallowed = True
                else:
                    target.sendall(data)
        # The end of one side is not told to the other either while the network is silent.
        if link.has_swallowed and (self._is_silent or self._is_deaf):
            return
        link.close()
        with self._lock:
            self._links.discard(link)


def shut(each: socket.socket) -> None:
    """Close a socket, and wake whoever reads from it."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _start(target, *args) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()
