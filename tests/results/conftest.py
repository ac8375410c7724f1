"""The fixtures that tests of results/ share with tests/search/test_ensemble.py."""

from tests.results.tiny_run import data, folds_run, run, template

__all__ = ["data", "folds_run", "run", "template"]
