"""MLflow: runs, what they record, and what is hidden in them."""
