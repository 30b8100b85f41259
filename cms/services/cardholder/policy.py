"""What an issuer's PIN policy says to a page; the vault verifies and enforces it."""

from cms.domain.errors import ServiceUnavailable
from hsm.config.kinds import parse_body
from hsm.config.policy import PolicyBody
from hsm.errors import ConfigRefused
from hsm.port import ConfigKind, VaultConfig


def policy_of(config: VaultConfig) -> PolicyBody:
    """Read the policy.

    Raises:
        ServiceUnavailable: there is none; the vault takes no PIN without it.
    """
    policy = _policy(config)
    if policy is None:
        raise ServiceUnavailable
    return policy


def allows_text(config: VaultConfig) -> bool:
    """Tell whether a page may get digits as text; without a policy it may not."""
    policy = _policy(config)
    return policy is not None and policy.text_reveal


def _policy(config: VaultConfig) -> PolicyBody | None:
    sealed = config.get(ConfigKind.POLICY)
    try:
        body = parse_body(ConfigKind.POLICY, sealed.body) if sealed else None
    except ConfigRefused:
        return None
    return body if isinstance(body, PolicyBody) else None
