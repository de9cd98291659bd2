"""Jobs as applications see them: handlers, enqueueing, outcomes, waiting."""
