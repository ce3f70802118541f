"""WebSocket clients as a source and as a destination."""
