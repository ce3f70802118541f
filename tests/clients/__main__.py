"""`python -m tests.clients [NAME ...]` builds what tests of Amazon's clients need, all of it or what is named."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.clients.all import BUILDS

names = sys.argv[1:] or list(BUILDS)
# Most of each build is one compiler on one core, or waiting for a registry.
with ThreadPoolExecutor(2) as both:
    for said in both.map(lambda name: BUILDS[name].fetch(), names):
        print(said, flush=True)
