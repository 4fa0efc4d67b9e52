"""How the tests are dealt to xdist's workers."""

from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("shared cores", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("shared cores")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`: the workflow's tests stay together, for they share one run; all others spread.

    The marker `xdist_group` would say the same, but it renames tests, which pytest 9.2 no longer lets xdist 3.8 do.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class WorkflowTogether(LoadScopeScheduling):  # type: ignore[misc]
        """Deals the largest group, the workflow's, first."""

        def _split_scope(self, nodeid: str) -> str:
            return "workflow" if nodeid.startswith("tests/workflow/") else nodeid

    return WorkflowTogether(config, log)
