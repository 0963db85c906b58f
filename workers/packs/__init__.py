"""Packed images: built once, mapped by whoever reads them.

A pack is whole or it is not there.
"""
