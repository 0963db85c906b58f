"""`python -m muster.orchestrator.cli`, and `python -m orchestrator.cli` in a checkout: the command line."""

from __future__ import annotations

from muster.__main__ import main

if __name__ == "__main__":
    main()
