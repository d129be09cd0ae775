"""Designs: which arms an ablation has, and which contrasts of them its verdicts are about. One file per design."""
