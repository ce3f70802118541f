"""Event source mappings of a running node: those that the API made become triggers, and run beside the declared ones.

Belongs here: from a mapping to a trigger with all its settings (binding.py), which of them run and how they are
(running.py). Does not: what the API may ask for (functions/mappings.py), how a source is worked off (sources.py).
"""
