"""Statistics as pure functions: arrays and tables in, numbers out."""
