"""A charge is made once, however often it is asked for."""

import os
import uuid

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent

kept = DynamoDBPersistenceLayer(table_name=os.environ["TABLE"])
by_order = IdempotencyConfig(event_key_jmespath="order", raise_on_no_idempotency_key=True)


@idempotent(persistence_store=kept, config=by_order)
def handler(event, context):
    print(f"charging {event['order']}")
    return {"charge": uuid.uuid4().hex, "order": event["order"]}
