"""A grid: one job over every combination of heads, backbones or whatever else its axes name, and seeds."""
