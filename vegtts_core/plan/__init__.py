"""What will this cost me? Rollouts, tokens, memory and time of every run of a parameter file, before anything runs.

    python -m vegtts_core.plan params/paper.yaml

Rollouts and prompt tokens are counted from the runs' own slots and schedules; lengths of completions and numbers of
distinct candidates are expected from recorded runs; time follows from rates that were observed or are given.
"""
