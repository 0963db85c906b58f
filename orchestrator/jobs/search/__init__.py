"""A search over D, L and other settings: trials whose iterations are members.

A trial owns no device: it asks the fleet.
"""
