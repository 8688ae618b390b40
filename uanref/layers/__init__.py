"""Layers: one file each, forward and hand-derived backward."""
