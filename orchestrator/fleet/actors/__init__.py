"""The fleet, its members, its ranks and those that hold and try GPUs, as actors of Ray.

Nothing is decided here: the rooms around say what a process is to do, and where.
"""
