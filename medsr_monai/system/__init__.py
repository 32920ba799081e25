"""Errors, optional imports, atomic files, scratch files, devices, memory allocation, provenance."""
