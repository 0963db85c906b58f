"""The papers' tables: rows, published cells, and the files that show them.

No number is computed here.
"""
