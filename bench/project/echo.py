import time


def http(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": event["body"]}


def sink(event, context):
    return None


def slow(event, context):
    time.sleep(0.01)
    return {"statusCode": 200}
