"""Files: opened, written durably, and locked; trouble of the machine; errors and exit codes."""
