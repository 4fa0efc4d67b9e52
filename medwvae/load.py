"""How busy a card is."""

import time

import torch


class Load:
    """The share of the time in which a card computes, asked of its driver at most once a second.

    Needs `nvidia-ml-py` (the extra `cuda`); without it, and on everything but NVIDIA's cards, there is no answer.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._asked = 0.0
        self._percent: float | None = None
        self._silent = device.type != "cuda"

    def figures(self) -> dict[str, float]:
        """Return the newest answer in percent, by name; empty where there is none."""
        if not self._silent and time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            try:
                self._percent = float(torch.cuda.utilization(self.device))
            except (ImportError, RuntimeError, OSError):
                self._silent, self._percent = True, None
            except Exception as error:
                if type(error).__module__ != "pynvml":
                    raise
                self._silent, self._percent = True, None
        return {} if self._percent is None else {"card_busy_percent": self._percent}
