"""DREML: a member trained on its own partition of the classes.

A member knows nothing of its ensemble's size.
"""
