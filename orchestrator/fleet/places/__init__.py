"""Where members can be trained: the nodes of a cluster, the GPUs that a fleet holds, and who goes where.

It knows no Ray and starts nothing itself.
"""
