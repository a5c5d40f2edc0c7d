"""A job from its file to its end: the built-in data, the stages in order, the last words."""
