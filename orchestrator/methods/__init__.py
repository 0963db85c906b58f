"""What a method is to those who decide: settings, presets, members of a request, words for tables; one folder for each.

No torch, and no training code.
"""
