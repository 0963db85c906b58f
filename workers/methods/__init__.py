"""The methods, a folder each: settings and spec, batches, loss, training.

No method knows another.
"""
