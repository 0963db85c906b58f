"""What jobs say and how it is read again: events and forecasts.

It neither trains nor draws.
"""
