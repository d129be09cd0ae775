"""One file per figure; each has ``draw``, tables to a matplotlib ``Figure``, without pyplot's global state."""
