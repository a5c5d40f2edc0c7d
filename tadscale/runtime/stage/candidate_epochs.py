"""Which epochs' weights are kept, to be chosen among on validation."""


def candidate_epochs(epochs: int, most: int) -> tuple[int, ...]:
    """At most `most` of the epochs 1 to `epochs`, spread evenly; the last is always one.

    A pure function: a stage that goes on after an interruption keeps the same ones, and nothing is ever deleted.
    """
    count = min(epochs, most)
    return tuple(-(-epochs * place // count) for place in range(1, count + 1))
