"""What this machine's GPUs are, and whether they compute.

Nothing here trains on them, and only the probe makes a context on one.
"""
