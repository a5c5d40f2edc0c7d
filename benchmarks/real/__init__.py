"""Untrimmed videos made of real footage and real human motion, for measuring what the built-in data cannot show."""
