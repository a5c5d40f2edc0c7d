"""The machines: what a job takes of a Ray cluster, and DeepSpeed's own settings."""
