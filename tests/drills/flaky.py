"""A proxy on loopback in front of a server: what a network does to a store that is reached over HTTP."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) /")
REFUSED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes connections on to a port of this machine; `faults` counts what it did to requests."""

    def __init__(self, port: int) -> None:
        self.target, self.faults, self.requests = port, 0, 0
        self.got: list[str] = []
        "The paths that were asked for with GET."
        self.mode = "fine"
        "fine; gone: nobody answers; slow: a fifth of a second more for each request; third: each third one fails."
        self.door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self.door.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def gone_for(self, seconds: float) -> None:
        """From now on nobody answers, for so long. Returns at once."""
        self.mode = "gone"

        def back() -> None:
            time.sleep(seconds)
            self.mode = "fine"

        threading.Thread(target=back, daemon=True).start()

    def close(self) -> None:
        self.door.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.door.accept()
            except OSError:
                return
            threading.Thread(target=self._connected, args=(client,), daemon=True).start()

    def _connected(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
                while data := client.recv(1 << 16):
                    if REQUEST.match(data):
                        if self._fails(client):
                            return
                        verb, path, *_ = data.partition(b"\r\n")[0].decode().split(" ")
                        self.got += [path] * (verb == "GET")
                    server.sendall(data)
        except OSError:
            return

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _fails(self, client: socket.socket) -> bool:
        """Does to a request what is due; whether it gets no answer of the server's."""
        self.requests += 1
        if self.mode == "slow":
            self.faults += 1
            time.sleep(0.2)
        elif self.mode == "gone":
            self.faults += 1
            reset(client)
            return True
        elif self.mode == "third" and self.requests % 3 == 0:
            self.faults += 1
            if self.faults % 2:
                client.sendall(REFUSED)
            else:
                reset(client)
            return True
        return False


def reset(client: socket.socket) -> None:
    """Ends a connection as a machine does that has lost it."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
