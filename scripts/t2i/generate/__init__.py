"""Shards of images."""
