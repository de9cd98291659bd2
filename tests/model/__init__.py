"""A model of eram's state machine, and a test that compares the database with it."""
