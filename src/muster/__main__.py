"""Where every command begins: before muster's packages are imported it is made sure that they are muster's.

Their names are common words, and a folder of the same name on PYTHONPATH, or where Python was started, hides ours.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

#: A file that only ours has, for each package.
PACKAGES = {"orchestrator": "cli.py", "workers": "store.py", "cluster": "local.py"}
EXIT_USAGE = 2


def main() -> None:
    """Entry point of the console script."""
    if problem := hidden():
        print(f"muster: {problem}", file=sys.stderr)
        if "--json" in sys.argv[1:]:
            print(json.dumps({"state": "failed", "exit_code": EXIT_USAGE, "message": problem}, indent=1))
        sys.exit(EXIT_USAGE)
    from orchestrator.cli import main as run

    run()


def hidden() -> str:
    """Which other module hides one of muster's packages, and what to do about it; "" if none does."""
    for name, mark in PACKAGES.items():
        found = importlib.util.find_spec(name)
        if found is None:
            return f"its package {name} is missing: install muster's checkout again, pip install -e ."
        places = list(found.submodule_search_locations or [str(found.origin)])
        if any((Path(place) / mark).is_file() for place in places):
            continue
        where = Path(places[0])
        return (
            f"{where} hides muster's own package {name}. Take {where.parent} off PYTHONPATH, or start muster from "
            "another folder."
        )
    return ""


if __name__ == "__main__":
    main()
