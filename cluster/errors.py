"""The one exception family of this package. Each message says what went wrong, where, and what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """A cluster could not be started, reached or asked.

    `exit_code` is what a command line should end with: 2 when the fault is in how the cluster was named
    (bad address, nobody answers, authentication refused), 1 otherwise.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        # Exceptions travel between Ray processes pickled; the default would lose exit_code.
        return type(self), (str(self), self.exit_code)


class UnreachableError(ClusterError):
    """Nobody answers, or not in time. Asking again later may help."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message, exit_code)


class HeadDiedError(ClusterError):
    """The local head ended by itself. Asking it again is of no use."""
