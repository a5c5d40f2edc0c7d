"""The cluster and the outside world, ring 3: a package a concern, each above those that it imports:
models and jobs stand on evaluation, planning and training, these on pipeline, and all on stage, tracking and cluster."""
