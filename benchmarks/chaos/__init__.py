"""A training to which everything happens that a cluster and its storage do to one, held against the undisturbed run."""
