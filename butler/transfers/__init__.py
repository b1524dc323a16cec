"""From one repository to another: what produces and what consumes bundles (transfer.md)."""
