"""All that may happen to the database on three machines, under load; `make ha-test` runs it.

Its name is not one that pytest looks for: it takes some ten minutes.
"""

import pytest

from tests.deployment import wait_for
from tests.ha.service import Served
from tests.ha.test_failover import test_another_leads_by_order as by_order
from tests.ha.test_failover import test_the_leader_is_killed as killed

EVERY_WAY = pytest.mark.parametrize("served", ["hosts", "haproxy", "pgbouncer"], indirect=True)
REFUSALS = 20


@EVERY_WAY
def test_another_leads_by_order(served: Served) -> None:
    by_order(served)


@EVERY_WAY
def test_the_leader_is_killed(served: Served) -> None:
    killed(served)


@EVERY_WAY
def test_the_leader_stands_still_and_goes_on(served: Served) -> None:
    with served.through("leader stopped, then going on") as leader:
        with leader.stopped():
            served.load.wait_for_one(503)
            served.cluster.wait_for_another_leader(leader)
            served.load.wait_for_one(204)
        served.cluster.wait_until_whole()


def test_the_postgres_of_the_leader_is_killed(served: Served) -> None:
    with served.through("Postgres of the leader killed") as leader:
        leader.kill_postgres()
        served.load.wait_for_one(503)
        served.cluster.wait_until_whole()


def test_the_leader_is_cut_off(served: Served) -> None:
    with served.through("leader cut off") as leader:
        if not leader.machine.cable:
            pytest.skip("a network of its own needs root and iproute2")
        leader.machine.pull_cable()
        try:
            served.load.wait_for_one(503)
            served.cluster.wait_for_another_leader(leader)
            served.load.wait_for_one(204)
        finally:
            leader.machine.plug_cable()
        served.cluster.wait_until_whole()


def test_the_synchronous_standby_is_cut_off(served: Served) -> None:
    with served.through("synchronous standby cut off") as leader:
        standby = served.cluster.synchronous()
        assert standby is not None
        if not standby.machine.cable:
            pytest.skip("a network of its own needs root and iproute2")
        standby.machine.pull_cable()
        try:
            served.load.wait_for_one(503)
            wait_for(lambda: served.cluster.synchronous() not in (None, standby))
            served.load.wait_for_one(204)
            assert served.cluster.leader() is leader
        finally:
            standby.machine.plug_cable()
        served.cluster.wait_until_whole()


def test_nothing_is_written_without_a_standby(served: Served) -> None:
    load = served.load
    with served.through("both standbys killed, etcd left") as leader:
        standbys = served.cluster.standbys()
        for standby in standbys:
            standby.kill("patroni")
        load.wait_for_one(503)
        acknowledged = len(load.acked_at)
        for _ in range(REFUSALS):
            load.wait_for_one(503)
        assert len(load.acked_at) == acknowledged
        assert not served.service.ready()
        assert served.cluster.leader() is leader
        for standby in standbys:
            standby.start()
        load.wait_for_one(204)
        served.cluster.wait_until_whole()


def test_one_machine_alone_writes_nothing(served: Served) -> None:
    load = served.load
    with served.through("two machines of three killed") as leader:
        lost = served.cluster.standbys()
        for member in lost:
            member.kill()
        wait_for(lambda: served.cluster.leader() is None)
        acknowledged = len(load.acked_at)
        for _ in range(REFUSALS):
            load.wait_for_one(503)
        assert len(load.acked_at) == acknowledged
        assert leader.runs()
        for member in lost:
            member.start()
        load.wait_for_one(204)
        served.cluster.wait_until_whole()
