"""Whole volumes through a network in bounded memory: how far it sees, tiles, memory, the loop (docs/usage.md)."""
