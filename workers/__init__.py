"""What runs inside one process on one device: data sets, packs, the store, training, embedding, scores.

It imports neither muster.orchestrator nor muster.cluster, and no Ray and no pydantic: it works without them.
"""

if not __name__.startswith("muster."):  # by its bare name it would be here twice
    raise ImportError(f"this is a part of muster: import muster.{__name__}")
