"""Server-sent events as a source and as a destination."""
