"""What a queue knows of the worker's registration with the server."""

from __future__ import annotations

from typing import Protocol


class Registration(Protocol):
    """The worker's registration with the server."""

    @property
    def worker_id(self) -> int:
        """The id that jobs are fetched under."""

    def renew(self, worker_id: int) -> None:
        """Tell that the server takes the worker of this id for dead."""
