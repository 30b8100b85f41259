"""EMV chip cards: how their keys are derived, and the scripts that change their PIN."""
