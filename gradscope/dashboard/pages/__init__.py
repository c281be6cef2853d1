"""One file a page: `layout()` and `register(app, runs)`."""
