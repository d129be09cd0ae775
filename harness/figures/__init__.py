"""One file per figure; each has ``draw``, from tables to a matplotlib ``Figure``, without pyplot and its global state."""
