"""Studies: many trainings that differ in a few settings, over several seeds, in one table (paper, Tables 1 and 2).

`plan` says which arms there are, `state` what is finished on disk, `runner` starts a process for each arm and seed,
`arm` is that process, `progress` tells how far it is, `results` reads and compares what the arms left; the tables and
plots are `report/study.py`. `steps` and `turns` measure what a training step costs.
"""
