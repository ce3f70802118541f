"""The pytest plugin that comes with eventfn: loaded in every run of pytest beside it, so it imports nothing heavy."""
