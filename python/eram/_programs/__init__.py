"""What the commands of `python -m eram` share."""
