"""A search's report: what its record says as numbers, as words, and as pages."""
