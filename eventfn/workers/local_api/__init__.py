"""What processes in an environment find at AWS_LAMBDA_RUNTIME_API: Lambda's Runtime, Extensions and Telemetry API.

Belongs here: HTTP as a hostile process may speak it, who may say what when, what is answered. Does not: processes,
deadlines and what becomes of an outcome (external.py).
"""
