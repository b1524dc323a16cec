"""What workers do: scanning, ingesting, writing."""
