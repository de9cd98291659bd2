"""A function whose body is not indented."""


def double(number):
return 2 * number
