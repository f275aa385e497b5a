"""What scripts/plant runs: faults that are planted into a copy of the program, which the tests must catch."""
