"""What is done with members' vectors: gather, evaluate, protocols.

It knows nothing of the fleet.
"""
