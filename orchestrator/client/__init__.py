"""From the terminal to a job and back: find or start a cluster, submit, follow, detach; and `doctor`.

It talks to a cluster through the Jobs API alone, and never asks what a job does.
"""
