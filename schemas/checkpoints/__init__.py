"""What a checkpoint holds: digests, parts, manifest, ledger, lists."""
