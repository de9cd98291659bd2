"""What an engine is beyond its worker: configuration, schedules, the main thread."""
