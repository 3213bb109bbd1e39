"""Captions and tokens."""
