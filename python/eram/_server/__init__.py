"""A PostgreSQL of one's own, and eram's files and installation in any."""
