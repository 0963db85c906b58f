"""What decides: commands, requests, plans, the fleet, answers, reports. The one place with Ray's actors and Tune.

It trains, embeds and scores nothing itself, and its processes that only decide never load torch.
"""

import sys

if not __name__.startswith("muster.") and sys.argv[:1] != ["-m"]:  # by its bare name it would be here twice
    raise ImportError(f"this is a part of muster: import muster.{__name__}")
