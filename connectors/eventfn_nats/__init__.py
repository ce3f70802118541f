"""NATS JetStream as a source and as a destination."""
