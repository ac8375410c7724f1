from benchmarks.chaos_schedule import KINDS, TRIALS, schedule

SEEDS = range(300)


def test_a_schedule_follows_from_its_seed() -> None:
    assert [schedule(seed) for seed in SEEDS] == [schedule(seed) for seed in SEEDS]
    assert len({str(schedule(seed)) for seed in SEEDS}) == len(SEEDS)


def test_a_schedule_is_a_line() -> None:
    assert str(schedule(1)) == "seed 1, asha, 1 node: nan:1 signal@3+0.2s/0.828 disk@11+0.1s/0.949"


def test_all_kinds_of_faults_come_in_the_order_of_their_moments() -> None:
    schedules = [schedule(seed) for seed in SEEDS]
    assert {fault.kind for each in schedules for fault in each.faults} == set(KINDS)
    assert {each.nodes for each in schedules} == {1, 2}
    for each in schedules:
        epochs = [fault.epochs for fault in each.faults]
        assert 1 <= len(epochs) <= 3
        assert epochs == sorted(epochs)
        assert set(each.nans) <= set(range(TRIALS))
        assert each.nodes == 2 or not any("nodes" in KINDS[fault.kind].needs for fault in each.faults)


def test_what_a_machine_does_not_allow_is_left_out_and_nothing_else() -> None:
    for each in map(schedule, SEEDS):
        assert each.possible({"root", "nodes"}) == each
        kinds = [fault.kind for fault in each.possible({"nodes"}).faults]
        assert kinds == [fault.kind for fault in each.faults if fault.kind not in ("disk", "cut", "memory")]
        alone = each.possible({"root"})
        assert alone.nodes == 1
        assert [fault.kind for fault in alone.faults] == [
            fault.kind for fault in each.faults if fault.kind not in ("node", "head", "cut", "memory")
        ]
