"""The scheduler of a job's accelerators: actors, ranks, failures, capacity, budget.

It keeps no state that the store lacks, and neither gathers nor scores.
"""
