"""``python -m sam2lora.pretrain``: makes the weights of nano, on procedural scenes alone."""
