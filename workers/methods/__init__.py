"""What is trained, and how: one folder for each method, and the registry that finds them by name.

A method's settings and spec load no torch; its trainer is loaded only where it trains or embeds.
"""
