"""Where every command begins: `muster`, or `python -m muster`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

PACKAGES = ("orchestrator", "workers", "cluster")
EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
LEAST_COLUMNS = 20


def main() -> None:
    """Entry point of the console script."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):  # a batch system, a terminal that is closed: as Ctrl-C
            if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
                signal.signal(number, _interrupt)
        _prepare(os.environ)
        if problem := missing_links(Path(__file__).parent):
            _refuse(problem, EXIT_USAGE)
        from muster.orchestrator.cli.app import main as run

        run()
    except BaseException as error:
        if not interrupted(error):
            raise
        _refuse("Interrupted.", EXIT_INTERRUPTED)  # while modules were loaded: a command that runs says more


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def interrupted(error: BaseException) -> bool:
    """Whether an interruption is behind it: before Python 3.12, one that comes while a class names its fields (as most
    of ours do when they are loaded) is wrapped in a RuntimeError."""
    return isinstance(error, KeyboardInterrupt) or (
        error.__cause__ is not None and interrupted(error.__cause__)
    )


def _prepare(environment: os._Environ[str]) -> None:
    """What libraries read of the shell, once and for all, and would take literally."""
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environment["MPLBACKEND"] = "agg"  # plots are files; another backend of the shell's may not even be there
    columns = environment.get("COLUMNS", "")
    if columns.isdecimal() and int(columns[:9]) < LEAST_COLUMNS:  # tables would lose what they say
        environment["COLUMNS"] = str(LEAST_COLUMNS)


def _refuse(problem: str, code: int) -> None:
    print(f"muster: {problem}", file=sys.stderr)
    if "--json" in sys.argv[1:]:
        print(json.dumps({"state": "failed", "exit_code": code, "message": problem}, indent=1))
    sys.exit(code)


def missing_links(here: Path) -> str:
    """What is wrong with a checkout whose links to the three folders were not kept, as by a copy over some disks or by
    git without the right to make them; "" if all are there."""
    lost = [str(here / name) for name in PACKAGES if not (here / name).is_dir()]
    if not lost:
        return ""
    return (
        f"this checkout came without its links: {', '.join(lost)}. Clone it again on a disk that has links, with "
        "`git clone -c core.symlinks=true`, or install a wheel of it."
    )


if __name__ == "__main__":
    main()
