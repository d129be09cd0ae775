"""The report of an ablation: its numbers in ``answers``, its words in one file a section."""
