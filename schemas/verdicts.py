"""What is done with a quantum, given its ancestors (docs/design.md, Data flow)."""

BLOCKED = 0
"""An ancestor failed or is blocked."""
HELD = 1
"""It or an ancestor is unreadable, or has not succeeded when the run is incomplete."""
ACCEPTED = 2
"""Everything else, successes and failures."""
