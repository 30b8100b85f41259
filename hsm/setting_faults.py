"""What is wrong with the settings of a program: which, what to do, and where to read on."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

PAGE: Final = "docs/settings.md"
"""Lists every setting of both programs."""
NAMES_A_SETTING: Final = re.compile("(CMS|HSM)_[A-Z0-9_]+")


def faults(error: ValidationError | SettingsError, prefix: str) -> str:
    """Write in one line what is wrong, without any value.

    Args:
        error: from reading settings.
        prefix: of the variables, as ``CMS_``.
    """
    if isinstance(error, SettingsError):
        # It names the field, in quotes, whose JSON cannot be read.
        name = f"{error}".partition('"')[2].partition('"')[0]
        return f"{prefix}{name.upper()}: no JSON as it must be; see {PAGE}"
    texts = []
    for item in error.errors(include_url=False, include_input=False):
        name = prefix + "_".join(str(part) for part in item["loc"][:1]).upper()
        wrong = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            texts.append(f"{name} is missing")
        else:
            # What is not of one variable names those that it is of.
            texts.append(f"{name}: {wrong}" if item["loc"] else wrong)
    return f"{'; '.join(sorted({*texts}))}; see {PAGE}"


def unknown(prefix: str, *models: type[BaseSettings]) -> str | None:
    """Say which variables begin with *prefix* and are no setting of *models*; None: there is none.

    A name that is misspelled would leave its setting as it is by default.
    """
    known = {f"{prefix}{field.upper()}" for model in models for field in model.model_fields}
    ours = (name for name in os.environ if name.upper().startswith(prefix))
    found = sorted(name for name in ours if name.upper() not in known)
    return f"{', '.join(found)}: no such setting; see {PAGE}" if found else None


def with_page(reason: str) -> str:
    """Add where to read on to a reason that begins with a setting and does not say it."""
    if NAMES_A_SETTING.match(reason) is None or "see docs/" in reason:
        return reason
    return f"{reason}; see {PAGE}"


def file_fault(name: str, file: Path, *, is_secret: bool) -> str | None:
    """Say what is wrong with the file that a setting names; None: nothing.

    Args:
        name: of the setting, as ``CMS_D1_KEY_FILE``.
        file: what it names.
        is_secret: whether it is for its user and its group alone.
    """
    try:
        with file.open("rb") as opened:
            # It is not read: a pipe has its secret once.
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except OSError as error:
        return with_page(f"{name}: {error.strerror}")
    if is_secret and mode & stat.S_IRWXO:
        return with_page(
            f"{name}: a secret, and its mode {mode:04o} is for every user: chmod 0600 it, or 0640"
            " for a group"
        )
    return None
