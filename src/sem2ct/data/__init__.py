"""From a microscope file to a tensor, and back to a file one can look at."""
