"""The cluster and the outside world: Ray Data pipeline, Ray Train and DeepSpeed, checkpoints, inference."""
