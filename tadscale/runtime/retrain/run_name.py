"""The name of a tick's run, by what decides it."""

import hashlib


def run_name(retraining: str, settings: str, data: str, champion: str) -> str:
    """Name of the run: the same tick has the same, another's is another.

    Args:
        retraining: its name.
        settings: digest of the job's settings.
        data: digest of the videos.
        champion: digest of the champion, empty where there is none.
    """
    told = "\n".join((retraining, settings, data, champion))
    return f"{retraining}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
