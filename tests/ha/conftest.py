"""One cluster for all tests, and a service for each way to it."""

from collections.abc import Iterator

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.ha.cluster import Cluster, why_not
from tests.ha.cluster import cluster as running_cluster
from tests.ha.service import Served, haproxy, hosts, pgbouncer
from tests.ha.service import served as running_service

WAYS = {"hosts": hosts, "haproxy": haproxy, "pgbouncer": pgbouncer}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with running_cluster() as made:
        yield made


@pytest.fixture(scope="module", params=["hosts"])
def served(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[Served]:
    """The service, by the way that the test names, or with all three hosts in its URL."""
    directory = tmp_path_factory.mktemp("ha")
    with running_service(cluster, WAYS[request.param], directory, softhsm, hsm_token) as made:
        yield made
