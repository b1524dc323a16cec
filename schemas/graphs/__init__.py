"""Graph files, predicted and provenance: container, blocks, addresses, and what is in them."""
