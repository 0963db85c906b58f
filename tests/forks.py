"""Commands in processes that are forked from one that has loaded muster: real processes, without a second of imports.

`python -m tests.forks SOCKET` serves a command a connection: words, environment, folder and outputs in, its exit code
out. What Python reads when it starts (the encoding, the locale) is the server's: tests of that start their own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import ROOT


class Server:
    """The other side: starts the server, and runs commands by it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.socket = str(folder / "socket")
        command = [sys.executable, "-m", "tests.forks", self.socket]
        self.process = subprocess.Popen(command, env=env, cwd=ROOT)

    def run(self, words: list[str], env: dict[str, str], timeout: float) -> tuple[int, str, str]:
        """Exit code, standard output and standard error. Raises TimeoutError."""
        with (
            tempfile.TemporaryFile("w+b") as out,
            tempfile.TemporaryFile("w+b") as err,
            self._connected() as link,
        ):
            link.settimeout(timeout)
            request = {"words": words, "env": env, "cwd": os.getcwd()}
            socket.send_fds(link, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
            link.shutdown(socket.SHUT_WR)
            code = int(link.recv(16))
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return code, *texts  # type: ignore[return-value]

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        deadline = time.monotonic() + 60
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.connect(self.socket)
                break
            except OSError:
                link.close()
                assert self.process.poll() is None, "the server of commands died"
                assert time.monotonic() < deadline, "the server of commands does not come up"
                time.sleep(0.05)
        with link:
            yield link

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def serve(path: str) -> None:
    """Forks for each connection, for ever."""
    import torch  # noqa: F401  (dry runs with initial weights load it)

    import muster.orchestrator.cli.app
    import muster.orchestrator.cli.cluster
    import muster.orchestrator.cli.data
    import muster.orchestrator.cli.launch
    import muster.orchestrator.cli.reproduce
    import muster.orchestrator.cli.runs
    import muster.orchestrator.cli.search
    import muster.orchestrator.client.session
    import muster.orchestrator.report.page  # noqa: F401

    gc.freeze()  # a collection in a fork would touch, and so copy, all of this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for a command
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(path)
        door.listen(16)
        while True:
            link, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                _answer(link)
                os._exit(0)
            link.close()


def _answer(link: socket.socket) -> None:
    data, fds, _, _ = socket.recv_fds(link, 1 << 20, 2)
    while part := link.recv(1 << 20):
        data += part
    request = json.loads(data)
    command = os.fork()
    if command == 0:
        os._exit(_command(request, fds))
    _, status = os.waitpid(command, 0)
    link.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _command(request: dict[str, Any], fds: list[int]) -> int:
    """What the console script does, with these words, in this environment and folder."""
    from muster.__main__ import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(fds[0], 1)
    os.dup2(fds[1], 2)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["muster", *request["words"]]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return int(code or 0) if not isinstance(code, str) else 1


if __name__ == "__main__":
    serve(sys.argv[1])
