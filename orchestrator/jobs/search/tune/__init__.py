"""What Ray Tune sees of a search: its trials, schedulers and run.

Nothing of Tune's is kept in the store.
"""
