"""Apache Kafka as a source and as a destination."""
