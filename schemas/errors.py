"""The errors of this project: one base class, and the exit code that each kind leads to."""


class AggregatorError(Exception):
    """A failure that is explained to the user by its message.

    The message says what is wrong, with which file, and what to do next.
    """

    exit_code = 1
    """Exit code of the command line: 1 is worth retrying, 2 never is."""


class RefusedError(AggregatorError):
    """The request can't be carried out as it is; retrying it unchanged is useless."""

    exit_code = 2


class FormatError(AggregatorError):
    """A file is truncated, of a wrong type or of an unknown version.

    Parameters
    ----------
    path
        File that can't be used.
    member
        Member of the file (of a graph), or "" for the file as a whole.
    problem
        What is wrong with it.
    """

    def __init__(self, path: str, member: str, problem: str) -> None:
        self.path = path
        self.member = member
        self.problem = problem
        place = f"{path}[{member}]" if member else path
        super().__init__(f"{place}: {problem}")

    def __reduce__(self) -> tuple[type["FormatError"], tuple[str, str, str]]:
        return (type(self), (self.path, self.member, self.problem))


class FatalWorkerError(AggregatorError):
    """A worker failed or died; what was committed stays, the run can be resumed."""
