"""When manifests and certificates end, without which nobody is served."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from cms.services.workers import Fault, Part

WARN_BEFORE: Final = timedelta(days=14)


@dataclass(slots=True)
class Ends:
    """When what the service lives on ends."""

    manifests: Mapping[str, datetime] = field(default_factory=dict)
    """By issuer."""
    certificates: Mapping[str, datetime] = field(default_factory=dict)
    """By listener."""

    def near(self, now: datetime) -> Iterator[Fault]:
        """Name what ends soon, or has ended."""
        of_parts: Mapping[Part, Mapping[str, datetime]] = {
            "manifest": self.manifests,
            "certificate": self.certificates,
        }
        for part, ends in of_parts.items():
            for name, end in sorted(ends.items()):
                if end - now < WARN_BEFORE:
                    yield Fault(part, f"{name}: it ends at {end:%Y-%m-%d %H:%M} UTC")


def of_certificates(files: Mapping[str, Path | None]) -> Mapping[str, datetime]:
    """Read when the first certificate of each chain to end does so, where there is a chain."""
    ends = {}
    for name, file in files.items():
        with suppress(OSError, ValueError):
            if file is not None:
                chain = x509.load_pem_x509_certificates(file.read_bytes())
                ends[name] = min(each.not_valid_after_utc for each in chain)
    return ends
