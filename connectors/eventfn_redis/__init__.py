"""Redis streams as a source and as a destination."""
