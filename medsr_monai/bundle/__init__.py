"""Bundles: their configurations, checks and workflows, and the command."""
