"""What is installed, what answers and how fast, and what would fail: one line a probe, each in bounded time."""
