"""What batch systems keep on record of their jobs, in their formats, and what follows for quanta."""
