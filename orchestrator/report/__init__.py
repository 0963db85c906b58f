"""The page and the plots of a run.

It reads rows that others computed.
"""
