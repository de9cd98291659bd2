"""A bracket that is opened and never closed."""

PRIMES = [2, 3, 5, 7,


def is_small(number):
    return number in PRIMES
