"""Distillation: one network that learns to find what a finished ensemble finds.

It reads the teacher's vectors, and never its networks.
"""
