"""Marketplace SaaS: what the functions share."""

import gc

# Python's own threshold has it look for garbage dozens of times while a function starts, when there is none: a tenth of
# the initialisation (docs/performance.md). With this one a few megabytes of garbage wait at most.
gc.set_threshold(50_000)
