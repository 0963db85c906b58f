"""Trains ensembles of image embeddings on a Ray cluster.

The packages are muster.orchestrator, which decides, muster.workers, which computes in one process, and muster.cluster,
which reaches Ray. This one imports none of them: workers must not load Ray, nor deciding processes torch.
"""

__version__ = "0.2.0"
