"""CUDA without a framework: device memory that processes share, and the process that launches kernels.

Nothing here imports torch: a process with these modules alone is up in half a second.
"""
