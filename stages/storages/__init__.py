"""Places to which objects go, and which they come from."""
