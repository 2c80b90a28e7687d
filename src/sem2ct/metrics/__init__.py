"""Numbers that compare two sets of images."""
