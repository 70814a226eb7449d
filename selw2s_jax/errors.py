"""The one exception for mistakes that a user can make and mend."""


class UserError(Exception):
    """A mistake in a config, a data file, a checkpoint or the environment.

    The message is one line that names the thing at fault and the remedy. The commands print it to
    standard error and exit with status 2; it is raised before any training starts.
    """
