"""The images of a request: which there are, what must be said of them, and their packs, read by all nodes if need be.

It asks for no model and scores nothing.
"""
