"""What people look at: score tables, timelines, training curves, model cards."""
