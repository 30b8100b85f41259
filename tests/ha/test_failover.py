"""The leader changes, or is killed, under load: no acknowledged PIN change is ever lost.

The short form, which `make test` runs; all that was thought of is in every_event.py.
"""

from tests.ha.service import Served


def test_another_leads_by_order(served: Served) -> None:
    with served.through("switchover") as leader:
        served.cluster.switch_over()
        served.cluster.wait_for_another_leader(leader)


def test_the_leader_is_killed(served: Served) -> None:
    with served.through("leader killed") as leader:
        leader.kill()
        served.load.wait_for_one(503)
        served.cluster.wait_for_another_leader(leader)
        served.load.wait_for_one(204)
        leader.start()
        served.cluster.wait_until_whole()
