"""Copies of the record in a tracking server."""
