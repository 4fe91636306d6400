"""Where images come from: sources that prepare a packed split, and the split itself."""
