import os
import time


def handler(event, context):
    do = event["do"]
    if do == "fail":
        raise ValueError("boom")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(60)
    if do == "log":
        print("a line of the function")
    return {
        "event": event,
        "requestId": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "left": context.get_remaining_time_in_millis(),
        "name": context.function_name,
        "trace": os.environ.get("_X_AMZN_TRACE_ID", ""),
    }
