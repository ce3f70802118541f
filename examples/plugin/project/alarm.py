def handler(event, context):
    level, _, text = event["line"].partition(" ")
    return {"alarm": level == "ERROR", "text": text, "offset": event["offset"]}
