"""A Butler repository without the Rubin stack: configuration, data IDs, paths, registry."""
