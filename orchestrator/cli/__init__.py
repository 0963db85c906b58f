"""Commands and their options: from words on a command line to one call, and from what went wrong to a message.

It decides nothing about runs: it parses, calls, prints.
"""
