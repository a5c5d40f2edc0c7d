"""Losses, one idea a file. Each keeps the batch dimension: normalisation belongs to the caller."""
