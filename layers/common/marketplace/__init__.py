"""Marketplace SaaS: what the functions share."""
