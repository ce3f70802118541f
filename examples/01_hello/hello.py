def handler(event, context):
    name = event.get("queryStringParameters", {}).get("name", "world")
    return {"message": f"Hello, {name}"}
