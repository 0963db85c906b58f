"""What is found without any training: what the images themselves tell, and what a network tells as it begins.

It trains nothing, and nobody can ask for it as a method.
"""
