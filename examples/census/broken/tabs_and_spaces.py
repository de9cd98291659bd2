"""A block that is indented by spaces in one line and by a tab in the next."""


def greet(name):
    if name:
        print("hello", name)
	print("goodbye")
