"""Detections of a subset by every network of a job, and their scores."""
