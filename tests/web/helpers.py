"""What the tests of the page share: a server of its own, and a client that says all of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from eram._web.config import WebConfig
from eram._web.database import Database
from eram._web.server import Server

# Longer than anything takes on a busy machine; a test that waits for so long has failed.
PATIENCE = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """A running server, and requests to it."""

    def __init__(self, dsn: str, **options: Any) -> None:
        # One look after the other, unless a test is about how often.
        config = WebConfig(**{"dsn": dsn, "port": 0, "refresh": 0.1, **options})
        self.server = Server(config, Database(config.dsn, config.statement_timeout))
        self.server.start()
        self.base = config.base_path

    def close(self) -> None:
        self.server.stop()

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        try:
            client.request(method, path, body=body, headers=headers or {})
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            client.close()

    def get(self, path: str, **query: Any) -> Any:
        """Ask the API for what must be there."""
        pairs = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        answer = self.ask(f"{self.base}/api/{path}{'?' if pairs else ''}{pairs}")
        assert answer.status == 200, answer.body
        return answer.json

    def act(self, name: str, status: int = 200, /, **body: Any) -> Any:
        """Take an action, as the page does."""
        answer = self.ask(
            f"{self.base}/api/actions/{name}",
            "POST",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-Eram-Csrf": self.get("session")["csrf"]},
        )
        assert answer.status == status, answer.body
        return answer.json

    def say(self, text: bytes, *, seconds: float = PATIENCE) -> bytes:
        """Send bytes as they are, and return what comes back until the end."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=seconds) as wire:
            wire.sendall(text)
            received = b""
            while chunk := wire.recv(65536):
                received += chunk
            return received


class Events:
    """A stream of events, as a browser has it."""

    def __init__(self, page: Page) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=PATIENCE)
        self._client.request("GET", f"{page.base}/api/events")
        self.response = self._client.getresponse()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name, data = "", []
        for line in self.response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif not field:
                yield name, json.loads("\n".join(data))
                data = []

    def next(self, wanted: str) -> Any:
        """Return the next event of a name."""
        return next(data for name, data in self if name == wanted)

    def close(self) -> None:
        self.response.close()
        self._client.close()


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds that only asking can tell."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        pause.wait(0.02)
