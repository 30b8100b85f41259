"""``python -m cms audit``: what happened at an issuer, the oldest first."""

from cms.operator.command_line import Commands, add_list, add_noun


def add_to(commands: Commands) -> None:
    """Add the noun and its command to the program."""
    add_list(add_noun(commands, "audit", "what happened"), "audit_events", "issuer")
