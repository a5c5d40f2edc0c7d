"""Ray Data executing the plan: packets, fetching, motion actors."""
