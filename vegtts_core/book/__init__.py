"""Figures, tables, boxes and the machinery that executes the chapters and builds the book from them.

It knows how things are shown; it measures nothing and computes no statistics.
"""

import warnings

# tqdm looks for widgets in a notebook and complains on stderr; chapters write nothing there.
warnings.filterwarnings("ignore", message="IProgress not found")
