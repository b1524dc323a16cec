"""Files that executed quanta leave: logs and task metadata."""
