"""A batch of a queue of which some messages fail: only these come again."""

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

processor = BatchProcessor(event_type=EventType.SQS)
logger = Logger(service="payments")


def pay(record):
    payment = record.json_body
    if payment["amount"] <= 0:
        raise ValueError(f"amount {payment['amount']}")
    logger.info("paid", extra={"payment": payment["id"]})


def handler(event, context):
    return process_partial_response(event=event, record_handler=pay, processor=processor, context=context)
