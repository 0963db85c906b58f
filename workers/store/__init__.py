"""What is where in the store, and what may be trusted.

It knows nothing of how a model is trained.
"""
