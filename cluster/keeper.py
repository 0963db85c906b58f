"""The process that ends a local head after its last job, whatever became of the terminal that started it.

    python -m muster.cluster.keeper FOLDER    the head's temporary folder

It belongs to the head: `muster cluster down` ends it as well. A head that is to be kept up needs none.
"""

from __future__ import annotations

import sys
import time

from muster.cluster import local
from muster.cluster.errors import ClusterError

_PAUSE_S = 2.0


def main() -> None:
    """Looks every two seconds, until the head has ended or is to be kept."""
    over = False
    while not over:
        time.sleep(_PAUSE_S)
        try:
            over = local.end_if_unused(sys.argv[1])
        except ClusterError as error:  # its processes hang, or the state folder is away for now
            print(error, flush=True)


if __name__ == "__main__":
    main()
