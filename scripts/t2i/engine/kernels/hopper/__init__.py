"""Kernels in CUDA for Hopper (sm_90a), where Triton's are more than 3 % slower in a whole image."""
