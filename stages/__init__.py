"""I/O stages: policy files tell what a plain function reads and writes.

`task` makes a task of a pipeline of a policy and a function.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggregator.stages.policy_task import task

__all__ = ["task"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: those who read a policy need no tasks."""
        if name != "task":
            raise AttributeError(f"module 'aggregator.stages' has no attribute {name!r}")
        from aggregator.stages import policy_task

        return policy_task.task
