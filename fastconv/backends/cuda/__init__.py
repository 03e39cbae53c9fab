"""NVIDIA GPUs, by kernels in Numba CUDA. numba is imported at the first use of a device, never with this package."""
