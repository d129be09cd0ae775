"""``python -m benchmarks.gpu``: whether, and how fast, training runs on the GPU of this machine.

It needs no network, no data set and no weights: photographs are drawn, backbones have random weights. Nor does it need
Ray, Optuna and MLflow; the parts that do are skipped where they are missing. First come the parts that check what must
hold on any device, then those that time it. Each part has a process and a share of the minutes of its own, and every
line is in the file as soon as it is known: a run that is cut keeps what it has. Without a GPU the small form runs on
the CPU.
"""
