"""How a demo ends where something is wrong."""


class DemoError(Exception):
    """What went wrong, in a line or a few."""
