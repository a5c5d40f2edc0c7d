"""How a training ends that cannot go on. Apart from what trains, so that it can be caught without importing Ray."""


class TrainingFailed(RuntimeError):
    """Training failed more often than `cluster.max_failures` allows."""
