"""How the tests are dealt to xdist's workers, and what all of them share."""

import gc
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("shared cores", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("shared cores")

SHARED_RUN = "tests/workflow/test_workflow.py tests/workflow/test_generative.py tests/workflow/test_docs.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`: tests that share a run of the workflow stay together; all others spread.

    The marker `xdist_group` would say the same, but it renames tests, which pytest 9.2 no longer lets xdist 3.8 do.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class RunsTogether(LoadScopeScheduling):  # type: ignore[misc]
        """Deals the largest groups, the workflow's, first."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            if not file.startswith("tests/workflow/"):
                return nodeid
            return SHARED_RUN if file in SHARED_RUN.split() else file

    return RunsTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long goes first, so that no worker ends long after the others."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Thousands of tests and all that they import stay: the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()
