"""The papers' tables and figures as one job, each number beside the published one.

It trains nothing by itself: every row asks for ensembles.
"""
