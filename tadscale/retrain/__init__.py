"""Whether a champion should be trained again: what it was trained on, what is new, what has drifted, what was decided."""
