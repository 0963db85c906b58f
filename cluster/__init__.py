"""How a Ray cluster comes to be and is reached: the local head, its environment, the Jobs API.

It knows nothing of training, and imports neither muster.orchestrator nor muster.workers.
"""

if not __name__.startswith("muster."):  # by its bare name it would be here twice
    raise ImportError(f"this is a part of muster: import muster.{__name__}")
