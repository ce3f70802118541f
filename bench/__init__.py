"""What it costs, measured: a file per question, each figure beside its raw ceiling in the same run.

Machines are noisy, so rounds are interleaved (eventfn, ceiling, eventfn, ceiling ...) and the table shows medians and
their ratio. Nothing here is a test: no figure fails a build. README.md says how to read it.
"""
