"""The drivers that come with eram, each a module that needs its library: see `eram.Driver`."""
