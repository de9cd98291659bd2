"""Requests on the wire: each is read within bounds, and its answer is written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from eram._web.api import Stream
from eram._web.connections import READ_SECONDS, WORK_SECONDS, WRITE_SECONDS
from eram._web.http import (
    JSON_TYPE,
    HttpError,
    Request,
    Response,
    bad_request,
    decode,
    not_found,
    read_query,
)
from eram._web.security import HEADERS

if TYPE_CHECKING:
    from eram._web.server import Server

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 16_384
MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 1_000_000
MAX_LENGTH_DIGITS = 10

_HEADERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r?\n)*(?:\r?\n)?")


class Handler(BaseHTTPRequestHandler):
    """One connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    server: Server
    # What is sent in one piece goes in one.
    wbufsize = -1

    def setup(self) -> None:
        self._conn = self.server.connection_of(self.request)
        super().setup()

    def handle_one_request(self) -> None:
        self.close_connection = True
        # The thread waits here for whatever comes next.
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            return
        self._conn.busy(READ_SECONDS)
        self.raw_requestline = self.rfile.readline(MAX_LINE_BYTES + 1)
        if len(self.raw_requestline) > MAX_LINE_BYTES:
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        if not self._parse_head():
            return
        try:
            self._respond()
            self.wfile.flush()
        # The client went away, or was too slow.
        except OSError:
            self.close_connection = True
        if not self.close_connection:
            self._conn.idle()
            # Looked at last: a server that stops meanwhile shuts down who is idle.
            self.close_connection = self.server.connections.is_closed

    def _parse_head(self) -> bool:
        """Read the headers, which the library would take much of."""
        head = bytearray()
        while len(head) <= MAX_HEAD_BYTES:
            line = self.rfile.readline(MAX_HEAD_BYTES + 1)
            head += line
            if line in {b"\r\n", b"\n", b""}:
                break
        is_too_long = len(head) > MAX_HEAD_BYTES
        wire, self.rfile = self.rfile, io.BytesIO(b"" if is_too_long else bytes(head))
        try:
            # Without the headers it says what the answer must know of the first line.
            is_fine = self.parse_request()
        finally:
            self.rfile = wire
        if not is_fine:
            return False
        if self.request_version not in {"HTTP/1.0", "HTTP/1.1"}:
            self.send_error(HTTPStatus.BAD_REQUEST, "HTTP/1.1 is spoken here")
        elif is_too_long:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        # The library passes over what is no header, and over all that follows it; and it ends and
        # continues headers where a proxy in front may not.
        elif not _HEADERS.fullmatch(head):
            self.send_error(HTTPStatus.BAD_REQUEST, "a header cannot be read")
        else:
            return True
        return False

    def handle_expect_100(self) -> bool:
        """Ask for the body, of a client that waits for that."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _respond(self) -> None:
        try:
            request = self._read()
            self._conn.busy(WORK_SECONDS)
            answer = self.server.routes.answer(request)
        except HttpError as error:
            answer = _of_error(error)
        except Exception:
            logger.exception("%s cannot be answered", self.path.partition("?")[0][:200])
            answer = _of_error(HttpError(500, "internal", "the server has made a mistake"))
        if isinstance(answer, Stream):
            self._stream(answer)
        else:
            self._send(answer)

    def _read(self) -> Request:
        """Read the rest of the request.

        Raises:
            HttpError: it is too much, or cannot be understood.
        """
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._read_body()
        if self.command not in {"GET", "HEAD", "POST"}:
            raise HttpError(
                405,
                "bad_request",
                "this method is not for anything here",
                headers={"Allow": "GET, HEAD, POST"},
            )
        for name in ("Host", "Origin", "Authorization", "Cookie", "Sec-Fetch-Site"):
            # Two of them, and each part of the way may believe another one.
            if len(self.headers.get_all(name, ())) > 1:
                raise bad_request(f"the {name} header is there twice")
        base = self.server.config.base_path
        path, _, query = self.path.partition("#")[0].partition("?")
        # Who asks for the path itself means the page below it.
        if path == base:
            path = f"{base}/"
        if not path.startswith(f"{base}/"):
            raise not_found("there is nothing by this path", f"This page is below {base}/")
        path = path.removeprefix(base)
        return Request(
            method=self.command,
            path=path,
            segments=tuple(decode(each, "the path") for each in path[1:].split("/")),
            query=read_query(query),
            headers=headers,
            body=body,
        )

    def _read_body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", ())
        length = lengths[0].strip() if lengths else "0"
        is_number = length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS
        if "Transfer-Encoding" in self.headers or len(lengths) > 1 or not is_number:
            # Where the next request begins cannot be known.
            self.close_connection = True
            raise bad_request("the body must have one Content-Length, and no Transfer-Encoding")
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise HttpError(413, "bad_request", f"the body has more than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise bad_request("the body is shorter than its Content-Length")
        return body

    def _send(self, answer: Response) -> None:
        self._conn.busy(WRITE_SECONDS)
        # Whatever the client speaks, or nothing of the kind.
        self.request_version = self.protocol_version
        self.send_response(answer.status)
        self._send_headers(answer)
        has_body = answer.status != HTTPStatus.NOT_MODIFIED
        if has_body:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if has_body and self.command != "HEAD":
            self.wfile.write(answer.body)

    def _send_headers(self, answer: Response) -> None:
        # What is not said to be kept is not: it shows jobs.
        headers = {
            "Content-Type": answer.content_type,
            "Cache-Control": "no-store",
            **HEADERS,
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)

    def _stream(self, stream: Stream) -> None:
        self.close_connection = True
        with contextlib.closing(stream.events()) as events:
            self.send_response(HTTPStatus.OK)
            self._send_headers(Response(content_type="text/event-stream; charset=utf-8"))
            # nginx would keep it until it has enough.
            self.send_header("X-Accel-Buffering", "no")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in events:
                self._conn.busy(WRITE_SECONDS)
                self.wfile.write(event)
                self.wfile.flush()
                # Until the next event nothing is asked of the client.
                self._conn.busy(WORK_SECONDS)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what cannot be read at all; the library calls it."""
        self.close_connection = True
        error = bad_request(message or explain or HTTPStatus(code).phrase)
        error.status = code
        self._send(_of_error(error))
        self.wfile.flush()

    def version_string(self) -> str:
        """Say who serves, and nothing that helps an attacker."""
        return "eram"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Note a request."""
        logger.debug(format, *args)


def _of_error(error: HttpError) -> Response:
    return Response(
        status=error.status,
        body=json.dumps(error.document()).encode(),
        content_type=JSON_TYPE,
        headers=error.headers,
    )
