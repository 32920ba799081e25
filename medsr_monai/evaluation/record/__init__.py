"""The record of an evaluation: what it writes, and what the report and the reader study read."""
