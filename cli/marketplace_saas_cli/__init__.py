"""`marketplace-saas`: the command line for whoever is on duty, and for finance."""
