"""A diagnosis as text, one file a format."""
