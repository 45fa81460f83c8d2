"""Graphs of exported models: ending in one driver."""
