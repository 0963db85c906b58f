"""Where every command begins: `muster`, or `python -m muster`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PACKAGES = ("orchestrator", "workers", "cluster")
EXIT_USAGE = 2


def main() -> None:
    """Entry point of the console script."""
    if problem := missing_links(Path(__file__).parent):
        print(f"muster: {problem}", file=sys.stderr)
        if "--json" in sys.argv[1:]:
            print(json.dumps({"state": "failed", "exit_code": EXIT_USAGE, "message": problem}, indent=1))
        sys.exit(EXIT_USAGE)
    from muster.orchestrator.cli import main as run

    run()


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
