"""Retrieval, clustering and their protocols, from vectors and labels.

No torch: NumPy and faiss.
"""
