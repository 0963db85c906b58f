"""The networks, and what is known of them without building one.

Nothing is trained here.
"""
