"""Challenger against champion: both are run on the held-out videos, the verdict is recorded, and the alias follows it."""
