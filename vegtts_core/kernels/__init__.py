"""Compiled kernels: the C++ compiler and its cache, and what this CPU can do at most. Knows nothing of candidates."""
