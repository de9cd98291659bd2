"""The house style as tests: over the catalog, over the sources, and by plpgsql_check."""
