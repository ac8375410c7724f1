"""The fingerprint of the code."""

from results.fingerprint import code_fingerprint
from trainable.node import versions


def test_the_code_fingerprint_is_of_the_packages_asked_for() -> None:
    assert code_fingerprint() == code_fingerprint(("results", "trainable"))
    assert len({code_fingerprint(), code_fingerprint(("results",)), code_fingerprint(("trainable",))}) == 3


def test_versions_name_what_numbers_depend_on() -> None:
    assert {"python", "numpy", "scipy", "torch", "torchvision"} <= set(versions())
