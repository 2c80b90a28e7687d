"""The machine: processes, folders, random streams, checkpoints, logs."""
