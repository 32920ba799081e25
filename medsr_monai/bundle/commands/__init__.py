"""The `medsr` command."""
