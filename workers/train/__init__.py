"""What the training of all methods shares.

No method is named here.
"""
