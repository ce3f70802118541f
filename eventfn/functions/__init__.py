"""What can be invoked: the model of a function, the registry of those declared, their code, layers and requirements.

Belongs here: what a function *is*. Does not: what happens to its events (bus/), how it runs (workers/).
"""
