"""The worker: threads that fetch, run and report, and its registration."""
