"""BIER: one network of boosted, decorrelated learners.

How many ranks train it changes nothing but rounding.
"""
