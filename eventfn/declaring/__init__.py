"""How a project is declared: from eventfn.toml, an App in a Python file or a bare handler to the one frozen model.

Belongs here: finding, reading and checking what somebody wrote, and saying where it is wrong. Does not: the model
itself (functions/model.py), the entrance (config.py), anything that starts, installs or connects.
"""
