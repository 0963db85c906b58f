"""Distillation's requests and presets.

It trains nothing.
"""
