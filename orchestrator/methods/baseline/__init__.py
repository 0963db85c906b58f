"""The compared methods' requests and presets.

They train nothing.
"""
