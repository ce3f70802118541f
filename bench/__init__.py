"""What it costs, measured: a file per question, each figure beside its raw ceiling in the same run.

Machines are noisy, so rounds are interleaved (ceiling, eventfn, ceiling, eventfn ...) and the table shows medians and
their ratio. Nothing here is a test: no figure fails a build.
"""
