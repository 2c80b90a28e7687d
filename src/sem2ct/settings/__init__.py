"""What may be set in the six commands, in which unit, and what excludes what."""
