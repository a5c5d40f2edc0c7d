"""Ray Train and DeepSpeed: launching a stage, what runs on every rank, checkpoints, resuming."""
