"""The training loop and its parts, on one process: nothing here knows of Ray or DeepSpeed."""
