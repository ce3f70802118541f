"""kinesis."""
