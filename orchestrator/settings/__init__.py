"""The types that all requests are made of, how they are parsed and checked, and how they are said as a command.

It reads no data and starts nothing.
"""
