"""An API with a router, as Powertools has it."""

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.metrics import MetricUnit
from orders import store

app = APIGatewayHttpResolver()
logger = Logger()
tracer = Tracer()
metrics = Metrics()


@app.get("/orders")
def listed():
    status = app.current_event.get_query_string_value("status")
    return {"orders": [order for order in store.ORDERS.values() if status in (None, order["status"])]}


@app.get("/orders/<number>")
@tracer.capture_method
def one(number: str):
    if number not in store.ORDERS:
        raise NotFoundError(f"no order {number}")
    return store.ORDERS[number]


@app.post("/orders")
def create():
    order = {"number": "2", "status": "new", **app.current_event.json_body}
    store.ORDERS[order["number"]] = order
    metrics.add_metric(name="Orders", unit=MetricUnit.Count, value=1)
    logger.info("created", extra={"order": order["number"]})
    return Response(201, "application/json", app._serializer(order), headers={"Location": f"/orders/{order['number']}"})


@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event, context):
    return app.resolve(event, context)
