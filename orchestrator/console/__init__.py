"""Tables, bars and lines: rows and events in, text out.

It computes nothing, and asks neither the cluster nor the store.
"""
