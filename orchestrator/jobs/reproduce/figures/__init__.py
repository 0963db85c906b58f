"""DREML's figures 3 to 6, redrawn from what was measured here.

Each module has `requests(options)`, the ensembles that it is made of, and `draw(store, folder, got)`, which writes for
each data set an SVG, a PNG and a CSV of the numbers behind them, and one `captions.json` with what they show
(`sheet.captions` reads it). A figure is a function of the vectors in the store: the same ones give the same bytes
on the same versions of matplotlib and NumPy.
"""
