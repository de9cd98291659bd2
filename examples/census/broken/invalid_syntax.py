"""A statement that Python once had and has no longer."""


def report(error):
    raise ValueError, error
