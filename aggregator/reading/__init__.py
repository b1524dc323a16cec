"""Reading provenance graphs back: what happened to a quantum or dataset, and why."""
