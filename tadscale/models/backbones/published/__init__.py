"""Backbones that others trained: the names in their files, and what makes their weights fit another input."""
