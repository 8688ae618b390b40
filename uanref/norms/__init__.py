"""The normalization family: one norm per file, the interface of every layer."""
