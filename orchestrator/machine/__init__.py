"""This machine as a command finds it: folders to write to, outputs, and what the system refuses.

It knows nothing of requests, runs or clusters.
"""
