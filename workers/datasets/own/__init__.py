"""One's own folder of pictures: the scan that accounts for every file, its layouts, what headers say.

It decodes no picture, and drops none without a word.
"""
