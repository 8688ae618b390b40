"""What stands beside a result: what another machine or day would change."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from typing import Any

from uanref import machine


class Measuring:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._start, self._cpu, self._date = time.perf_counter(), time.process_time(), datetime.now(UTC)

    def taken(self) -> dict[str, Any]:
        """Return seconds, CPU seconds, peak memory of the process, versions, host and date."""
        return {
            "seconds": time.perf_counter() - self._start,
            "cpu_seconds": time.process_time() - self._cpu,
            "memory_bytes": machine.peak_memory(),
            "versions": machine.versions(),
            "host": platform.node(),
            "date": self._date.isoformat(timespec="seconds"),
        }
