"""The commands ``python -m sam2lora.train``, ``.predict`` and ``.export``: options in, exit status out."""
