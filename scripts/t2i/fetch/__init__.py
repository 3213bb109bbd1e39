"""Inputs: the table of sources, downloads, mirrors, image sets."""
