"""Backbones, detection heads, fusion, and the two networks built of them: the plain detector and the student."""
