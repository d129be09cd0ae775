"""Questions as values: searches, ablations, and where they are declared."""
