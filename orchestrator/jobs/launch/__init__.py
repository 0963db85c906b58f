"""A launch: one ensemble from request to report.

It neither packs, trains nor scores by itself: ensemble/ does for all kinds of jobs.
"""
