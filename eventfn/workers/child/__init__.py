"""What runs on the other side of the channel: the zygote, and an environment's loading, serving and answering.

Belongs here: standard library only, nothing else of eventfn but eventfn.sandbox, which is as bare. Does not: anything
that the supervisor decides. All imports stand at the top of a file: once the zygote has loaded these modules it takes
them out of sys.modules, so that no function sees them.
"""
