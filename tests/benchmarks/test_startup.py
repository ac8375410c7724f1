from benchmarks.runs import compared
from benchmarks.startup import FIRST_STEP
from search.usage import Usage


def test_the_first_step_is_found_in_what_a_search_says() -> None:
    usage = Usage(2, began=100.0)
    spent = {"kept_seconds": 1.0, "beside_seconds": 0.0, "lost_seconds": 3.0}
    usage.add("0000", {"seconds": 9.0, **spent}, now=117.5)
    found = FIRST_STEP.search(f"Run: faces\n{usage.line(now=120.0)}\n")
    assert found is not None and float(found[1]) == 7.5
    assert found[0].endswith("%.")


def test_a_ratio_is_the_peers_time_over_ours_pair_by_pair() -> None:
    found = compared([(10.0, 20.0), (10.0, 40.0), (20.0, 60.0)])
    assert (found["ratio_median"], found["ratio_range"]) == (3.0, [2.0, 4.0])
    assert (found["ours"], found["peer"]) == ([10.0, 10.0, 20.0], [20.0, 40.0, 60.0])
