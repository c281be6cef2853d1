"""What pages are made of: one file a part, each a function from plain values to components."""
