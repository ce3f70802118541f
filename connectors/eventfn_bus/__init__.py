"""An EventBridge-shaped bus as a source and as a destination."""
