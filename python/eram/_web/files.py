"""The files of the page: those that there were when the server started, and no others."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from importlib import resources

from eram._web.http import Request, Response, not_found

_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_HTML = "text/html; charset=utf-8"
_BASE = '<base href="/">'


class Files:
    """Static files, by name.

    Args:
        base_path: below which the page is.
    """

    def __init__(self, base_path: str) -> None:
        folder = resources.files("eram._web") / "static"
        self._base_path = base_path
        self._files = {
            each.name: each
            for each in folder.iterdir()
            if each.is_file() and each.name.rpartition(".")[2] in _TYPES
        }
        self._index = folder / "index.html"
        self._login = resources.files("eram._web") / "login.html"

    def file(self, request: Request, name: str) -> Response:
        """Answer with one of the files.

        Raises:
            HttpError: there is no such file.
        """
        found = self._files.get(name)
        if found is None:
            raise not_found(f'there is no file "{name[:100]}"')
        return _tagged(request, found.read_bytes(), _TYPES[name.rpartition(".")[2]])

    def index(self, request: Request) -> Response:
        """Answer with the page, which reads the path by itself."""
        return _tagged(request, self._based(self._index.read_text("utf-8")), _HTML)

    def login(self, error: str, following: str, status: int) -> Response:
        """Answer with the form that asks for the token."""
        page = self._login.read_text("utf-8")
        page = page.replace("{error}", html.escape(error)).replace("{next}", html.escape(following))
        return Response(
            status=status,
            body=self._based(page),
            content_type=_HTML,
            # Older browsers would not say otherwise that the form is from here.
            headers={"Cache-Control": "no-store", "Referrer-Policy": "same-origin"},
        )

    def _based(self, page: str) -> bytes:
        base = f'<base href="{html.escape(self._base_path)}/">'
        return page.replace(_BASE, base, 1).encode()


def _tagged(request: Request, body: bytes, content_type: str) -> Response:
    """Answer with what a browser keeps, and asks about each time."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status=304, content_type=content_type, headers=headers)
    return Response(body=body, content_type=content_type, headers=headers)
