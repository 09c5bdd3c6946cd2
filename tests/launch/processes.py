"""Processes of this machine: who descends from whom. Also imported by the programs in bin/, so: nothing but Python."""

import subprocess


def descendants(ancestor: int) -> list[int]:
    """The ids of all processes below `ancestor`, whatever their session; what Slurm's control groups know."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [ancestor]
    for parent in found:  # grows as we go
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]
