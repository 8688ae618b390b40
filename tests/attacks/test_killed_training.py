"""Trainings, each killed at some moment: what is on the disk is whole, and whoever goes on gets the same bits.

The moments are drawn from a seed, as far as another process's moments can be: while it starts, in an epoch, while it
writes, after the last epoch. Every checkpoint that a kill leaves is held against the straight run's at the same epoch,
bit by bit, and continued to the end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import turns
from support.checkpoints import state
from support.idx import write_images

from uanref.experiments import recipe, single
from uanref.training import checkpoint, recording

KILLS = 60 if turns.whole() else 20  # a commit
EPOCHS = 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOMENTS = ("starting", "epoch", "epoch", "saving", "saving", "end")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]


def until_guarded(process: subprocess.Popen[str]) -> None:
    """Wait until the command has its handler of SIGTERM: what comes before is Python's own start."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(0.3)
        return
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)


class Attack:
    """A folder in which one training after the other is killed."""

    def __init__(self, folder: Path) -> None:
        self.images, self.folder, self.copy = folder / "images", folder / "runs", folder / "copy.npz"
        self.images.mkdir()
        write_images(self.images, 150, 20, (6, 6), 3)
        self.folder.mkdir()
        self.path = self.folder / "a.npz"
        self.straight = {schedule: list(self._boundaries(schedule)) for schedule in ("constant", "cosine")}
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self.left: set[str] = set()

    def options(self, schedule: str) -> dict[str, object]:
        fixed = {"model": "mlp", "norm": "uan", "batch_size": 32, "dataset": f"idx:{self.images}"}
        return {**fixed, "schedule": schedule}

    def _boundaries(self, schedule: str) -> Iterator[tuple[object, ...]]:
        """Yield the state of a run that nothing ends, at the end of every epoch."""
        trainer = single._new(recipe.DEFAULTS | self.options(schedule), EPOCHS, "none")
        checkpoint.save(self.copy, trainer)
        yield state(self.copy)
        for _ in range(EPOCHS):
            trainer.fit(1)
            checkpoint.save(self.copy, trainer)
            yield state(self.copy)

    def clear(self) -> None:
        for left in self.folder.iterdir():
            left.unlink()

    def held(self, path: Path) -> int:
        return checkpoint.load_meta(path)["epoch"] if path.exists() else 0

    def start(self, schedule: str, resume: bool) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "uanref", "train", "--epochs", str(EPOCHS), "--save", str(self.path)]
        if resume:
            command += ["--resume", str(self.path)]
        else:
            for name, value in self.options(schedule).items():
                command += ["--" + name.replace("_", "-"), str(value)]
        return subprocess.Popen(
            command, cwd=self.folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait(self, process: subprocess.Popen[str], moment: str, draw: random.Random) -> str:
        """Return, at the moment, what the process has said so far."""
        if moment == "starting":
            until_guarded(process)
            time.sleep(draw.uniform(0.0, 0.7))
            return ""
        assert process.stderr is not None
        wanted = EPOCHS if moment == "end" else self.held(self.path) + draw.randint(1, 4)
        said = ""
        while f"epoch {wanted}/" not in said and (line := process.stderr.readline()):
            said += line
        if moment == "saving":
            deadline = time.monotonic() + 0.3  # where writing is too quick to be seen, not after the last epoch
            while time.monotonic() < deadline and process.poll() is None:
                if self.hidden() - self.left:
                    self.seen["while a temporary file stood"] += 1
                    break
        else:
            time.sleep(draw.uniform(0.0, 0.02) if moment == "epoch" else draw.uniform(0.0, 0.8))
        return said

    def kill(self, number: int, draw: random.Random) -> None:
        """Kill one training and look at what it leaves."""
        signum, schedule = SIGNALS[number % 3], ("constant", "cosine")[number // 3 % 2]
        moment = draw.choice(MOMENTS)
        fits = self.path.exists() and checkpoint.load_meta(self.path)["schedule"]["kind"].lower() == schedule
        resume = fits and self.held(self.path) < EPOCHS and draw.random() < 0.7
        if not resume and (not fits or draw.random() < 0.6):
            self.clear()
        before = self.held(self.path)
        here = f"kill {number} ({signum.name}, {moment}, {schedule}, resume={resume}, {before} epochs before)"
        self.left = self.hidden()  # by a SIGKILL: nobody may stumble over it

        process = self.start(schedule, resume)
        try:
            said = self.wait(process, moment, draw)
            process.send_signal(signum)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        said += err
        done = process.returncode == 0
        for sign in ("Traceback", "Exception ignored"):
            if sign in said:
                self.faults.append(f"{here}: {sign} on stderr: {said[-500:]}")
        # A signal while Python itself ends, after the last line, kills by default: nothing of ours runs any more.
        if process.returncode not in (0, CODES[signum]) and not ("Curves in" in out and process.returncode == -signum):
            self.faults.append(f"{here}: exit code {process.returncode}: {said[-500:]}")
        runs = {"a", *(f"a.{i}" for i in range(1, 9))}
        expected = {"a-curves.png"} | {f"{run}{end}" for run in runs for end in (".npz", "-replay.npz")}
        strange = {left.name for left in self.folder.iterdir()} - expected - self.left
        if strange and not (signum == signal.SIGKILL and strange <= self.hidden()):
            self.faults.append(f"{here}: left {strange}")
        self.seen[f"{signum.name} {'came late' if done else 'killed'}"] += 1
        self.seen[moment] += 1
        self.seen["resumed"] += resume
        self.seen["beside more epochs"] += before > 0 and not resume
        self.look(here, before, done, schedule)

    def hidden(self) -> set[str]:
        """Return the names of temporary files."""
        return {name for name in os.listdir(self.folder) if name.startswith(".")}

    def look(self, here: str, before: int, done: bool, schedule: str) -> None:
        """Hold every checkpoint in the folder against the straight run, and continue it to the end."""
        after = self.held(self.path)
        if after < before or (done and after != EPOCHS):
            self.faults.append(f"{here}: {after} epochs after it, done: {done}")
        for path in sorted(self.folder.glob("a*-replay.npz")):
            recording.read(path)  # whole or not there
        for path in sorted(set(self.folder.glob("a*.npz")) - set(self.folder.glob("a*-replay.npz"))):
            epoch = self.held(path)
            if state(path) != self.straight[schedule][epoch]:
                self.faults.append(f"{here}: {path.name} is not the straight run at epoch {epoch}")
            if epoch < EPOCHS:
                shutil.copy(path, self.copy)
                single.train({}, epochs=EPOCHS, resume=self.copy, save=self.copy, progress="none")
                if state(self.copy) != self.straight[schedule][EPOCHS]:
                    self.faults.append(f"{here}: {path.name}, continued, is not the straight run")


def test_killed_trainings(tmp_path: Path) -> None:
    draw = random.Random(12 if turns.whole() else f"{turns.number(2**31)}")
    attack = Attack(tmp_path)
    for number in range(KILLS):
        attack.kill(number, draw)
    faults = len({fault.split(":")[0] for fault in attack.faults})
    print(f"\ntried {KILLS}, handled {KILLS - faults}, faults {faults}; {dict(sorted(attack.seen.items()))}")
    assert attack.faults == []
    assert sum(count for name, count in attack.seen.items() if name.endswith(" killed")) > 0.5 * KILLS
