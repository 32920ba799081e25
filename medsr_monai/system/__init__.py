"""The ground: errors, optional imports, atomic files, scratch, device, allocation, provenance."""
