"""The name under which muster is started: `muster`, or `python -m muster`. It imports nothing by itself."""
