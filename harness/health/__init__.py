"""Whether a machine and a study are as they should be, and what can be repaired."""
