"""Handlers inside the transactions that complete their jobs, by whichever driver."""
