"""Marketplace SaaS: what the functions share."""

import gc

# Python's own threshold has it look for garbage dozens of times while a function starts, when there is none: a tenth of
# the initialisation (docs/performance.md). The largest function makes 80,000 objects until it is ready.
gc.set_threshold(100_000)
