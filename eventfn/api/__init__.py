"""The admin listener (aiohttp, with a shortcut): what commands and the metrics scraper talk to, a file per resource.

Belongs here: HTTP in, HTTP out. Does not: functions' own HTTP (the http connector), any rule.
"""
