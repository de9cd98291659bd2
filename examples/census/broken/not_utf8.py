"""A text in Latin-1 that does not say so."""

CAFÉ = "café"
