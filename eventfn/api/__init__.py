"""The admin listener (aiohttp): what the commands and the metrics scraper talk to, a file per resource.

Belongs here: HTTP in, HTTP out. Does not: functions' own HTTP (the http connector), any rule.
"""
