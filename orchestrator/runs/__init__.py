"""Runs from the store alone: state, logs, scores again, correlation.

No cluster is asked.
"""
