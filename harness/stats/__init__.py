"""Statistical inference on the scores of an ablation: pure functions of `scores.Cells`, with generators passed in.

`scores`: arms by replicates by images, and contrasts of arms. `effects`: estimates with intervals and p-values.
`verdicts`: from matters to does not matter, or undecided. Each other module is a method by its usual name.
"""
