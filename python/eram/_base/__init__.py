"""What all parts share: words, statements, connections."""
