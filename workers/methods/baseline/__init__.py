"""The compared methods: one network, one embedding, a loss of pytorch-metric-learning.

Its library is loaded only where it trains.
"""
