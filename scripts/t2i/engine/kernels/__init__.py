"""Faster forms of operations for NVIDIA GPUs, written in Triton."""
