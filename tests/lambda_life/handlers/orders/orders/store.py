ORDERS = {"1": {"number": "1", "status": "paid"}}
