"""The method: SAM 2 with low-rank adapters on retinal fundus images, trained and judged. Imports no harness."""
