"""A Butler repository without the Rubin stack: configuration, dimensions, datastores, databases, registry."""
