"""One module per command: wiring between folders and the parts, nothing else."""
