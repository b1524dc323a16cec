"""What is on disk and on the wire: graph files, execution files, digests, messages."""
