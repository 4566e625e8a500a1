"""Errors a user can cause: the message names cause and cure; the command line prints it without a traceback."""


class UserError(ValueError):
    """Wrong argument, name or option; the command line exits with code 2."""

    exit_code = 2


class DataError(UserError):
    """Files on disk are missing, corrupt or of the wrong kind; the command line exits with code 1."""

    exit_code = 1


class TrainingError(UserError):
    """Training or saving cannot go on (non-finite loss, full disk); the command line exits with code 1."""

    exit_code = 1
