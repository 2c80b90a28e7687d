"""One module per kind of scan file; each opens it as a stack of grey slices."""
