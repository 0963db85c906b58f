"""What a method is to those who decide: its presets.

No torch, and no training code.
"""
