"""`make mutants`: every small change of the code that decides, tried against the quick tests that run it.

    python -m tests.mutants [--again] [--tests PATH ...] [FILE ...]

mutmut writes the mutants (`[tool.mutmut]` in pyproject.toml says of what) into `mutants/`, all of a file in one copy,
and `mutmut show NAME` prints one. What runs them is here, because a process or a pytest for each takes seconds: pytest
collects once, each test is run once in a fork to see which functions it enters, and each mutant is a fork of the
collected session that runs those tests until one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import ROOT

SURVIVED, KILLED, UNTESTED, LATE = 0, 1, 33, 36  # as mutmut writes them
AT_ONCE = 2
#: Seconds of CPU that a mutant may take beside ten times what its tests took; some make a loop endless.
PATIENCE = 5
#: Tests that together took longer than so many seconds of CPU are left out, the slowest ones first.
MOST_SECONDS = 6


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", help="orchestrator/vectors/gather.py: only mutants of these")
    parser.add_argument("--again", action="store_true", help="only those that lived the last time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th: an estimate")
    parser.add_argument("--tests", nargs="*", help="instead of those that pyproject.toml names")
    asked = parser.parse_args()
    os.chdir(ROOT)
    wanted = dict(list(_written(asked.files, again=asked.again).items())[:: asked.every])
    from mutmut.configuration import config

    os.environ["MUTANT_UNDER_TEST"] = ""
    os.environ["PY_IGNORE_IMPORTMISMATCH"] = "1"
    runner = Runner(wanted)
    selection = asked.tests or config().pytest_add_cli_args_test_selection
    words = ["--rootdir=.", "--capture=sys", "--durations=0", *config().pytest_add_cli_args, *selection]
    os.chdir("mutants")
    _plain_actors()
    pytest.main(words, plugins=[runner])
    os.chdir(ROOT)
    _told(runner.results)


def _written(files: Sequence[str], *, again: bool) -> dict[str, Any]:
    """Writes all mutants; the wanted ones' names, each with the file's results that mutmut keeps."""
    import mutmut.__main__ as mutmut

    _no_wording()
    os.environ["MUTANT_UNDER_TEST"] = "mutant_generation"
    Path("mutants").mkdir(exist_ok=True)
    with contextlib.redirect_stdout(None):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(AT_ONCE)
    found = {}
    for path in mutmut.walk_mutatable_files():
        if not files or str(path).removeprefix("src/muster/") in files:
            data = mutmut.SourceFileMutationData(path=path)
            data.load()
            old = data.exit_code_by_key
            found |= {name: data for name in old if not again or old[name] in {SURVIVED, UNTESTED}}
    if not found:
        sys.exit("No mutants of these: [tool.mutmut] in pyproject.toml lists the files.")
    return found


def _no_wording() -> None:
    """Of a text with a space, which is for people, no mutants are made, and of another one instead of three."""
    from mutmut.mutation import mutators

    made = mutators.operator_string

    def once(node: Any) -> Iterator[Any]:
        if " " not in getattr(node, "value", " "):
            yield from list(made(node))[:1]

    mutators.mutation_operators[:] = [  # type: ignore[index]
        (kind, once if operator is made else operator) for kind, operator in mutators.mutation_operators
    ]


def _plain_actors() -> None:
    """Actors stay plain classes: mutmut takes methods from a class's name, where Ray would have put an actor class.
    No test of these has a cluster, and so none misses that."""
    import ray

    decorate = ray.remote

    def plain(kind: type) -> type:
        kind.__ray_metadata__ = SimpleNamespace(modified_class=kind)  # type: ignore[attr-defined]
        return kind

    def remote(*args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], type):
            return plain(args[0])
        decorated = decorate(*args, **options)
        return lambda kind: plain(kind) if isinstance(kind, type) else decorated(kind)

    ray.remote = remote


@dataclass
class Running:
    """A mutant that is being tried."""

    name: str
    folder: str
    deadline: float


class Runner:
    """The pytest plugin: takes the place of running the collected tests."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.results: dict[str, int] = {}
        self.running: dict[int, Running] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("errors during collection")
        from mutmut.workers.isolation import run_in_fork_with_result

        self.items = {item.nodeid: item for item in session.items}
        print(f"\n{len(self.items)} tests see which functions they enter ...", flush=True)
        entered, seconds, failed = run_in_fork_with_result(_entered, session)
        if failed:
            raise session.Interrupted(f"tests fail without a mutant: {failed}")
        print(f"{len(self.wanted)} mutants ...", flush=True)
        gc.collect()
        gc.freeze()  # a collection in a fork would touch, and so copy, all of this
        began = time.monotonic()
        for count, name in enumerate(self.wanted, start=1):
            tests, took = _quickest(entered.get(name.partition("__mutmut_")[0], set()), seconds)
            if not tests:
                self._end(name, UNTESTED)
                continue
            while len(self.running) >= AT_ONCE:
                self._reap()
            self._fork(session, name, tests, PATIENCE + 10 * took)
            if count % 25 == 0:
                print(f"  {count} after {time.monotonic() - began:.0f} s", flush=True)
                self._save()
        while self.running:
            self._reap()
        self._save()
        return True

    def _save(self) -> None:
        for data in {id(data): data for data in self.wanted.values()}.values():
            data.meta_path = ROOT / data.meta_path  # mutmut's is relative to where it was started
            data.save()

    def _fork(self, session: pytest.Session, name: str, tests: list[str], patience: float) -> None:
        folder = tempfile.mkdtemp(prefix="muster-mutant-")
        child = os.fork()
        if child == 0:
            limit = int(time.process_time() + patience) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            _run_forked(lambda: _tried(session, [self.items[test] for test in tests], name, folder))
        self.running[child] = Running(name, folder, time.monotonic() + 60 + patience)

    def _reap(self) -> None:
        """Waits for one to end, and ends those that hang."""
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child in self.running:
                break
            for number, running in self.running.items():
                if time.monotonic() > running.deadline:
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.005)
        running, code = self.running.pop(child), os.waitstatus_to_exitcode(status)
        shutil.rmtree(running.folder, ignore_errors=True)
        self._end(running.name, code if code in {SURVIVED, KILLED} else LATE)

    def _end(self, name: str, code: int) -> None:
        self.results[name] = self.wanted[name].exit_code_by_key[name] = code


def _quickest(tests: set[str], seconds: dict[str, float]) -> tuple[list[str], float]:
    """Those of the tests that are run, the quickest first, and the seconds that they take together.

    A test's own seconds are under its name, those of its file's fixtures under the file's: they are taken once.
    """

    def cost(test: str) -> float:
        return seconds[test] + seconds[_file(test)]

    chosen, files, took = [], set(), 0.0
    for test in sorted(tests, key=lambda test: (cost(test), test)):
        more = seconds[test] if _file(test) in files else cost(test)
        if chosen and took + more > MOST_SECONDS:
            continue
        chosen.append(test)
        files.add(_file(test))
        took += more
    return chosen, took


def _file(test: str) -> str:
    return test.partition("::")[0]


def _run_forked(work: Callable[[], int]) -> None:
    """The rest of a forked process: says nothing and leaves nothing to be cleaned up."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    gc.disable()
    code = KILLED
    try:
        code = work()
    finally:
        os._exit(code)


def _tried(session: pytest.Session, items: list[pytest.Item], name: str, folder: str) -> int:
    from mutmut.mutation.trampoline import set_mutant_under_test

    set_mutant_under_test(name)
    for _ in _each_run(session, items, folder):
        if session.testsfailed:
            return KILLED
    return SURVIVED


def _entered(session: pytest.Session) -> tuple[dict[str, set[str]], dict[str, float], list[str]]:
    """The tests that enter each function, the seconds of CPU that each test and each file's fixtures took, and what
    failed. What a file's fixtures enter counts for all of its tests.
    """
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state

    entered: dict[str, set[str]] = defaultdict(set)
    seconds: dict[str, float] = defaultdict(float)
    failed: list[str] = []
    of_module: dict[str, list[str]] = defaultdict(list)
    for item in session.items:
        of_module[_file(item.nodeid)].append(item.nodeid)

    class Watch:
        began = time.process_time()

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            now = time.process_time()
            took, self.began = now - self.began, now
            tests = [report.nodeid]
            if report.when == "setup":
                tests = of_module[_file(report.nodeid)]
                seconds[_file(report.nodeid)] = max(seconds[_file(report.nodeid)], took)
            else:
                seconds[report.nodeid] += took
            if report.failed:
                failed.append(report.nodeid)
            for function in state()._stats:
                entered[function].update(tests)
            state()._stats.clear()

    session.config.pluginmanager.register(Watch())
    set_mutant_under_test("stats")
    with tempfile.TemporaryDirectory(prefix="muster-mutant-") as folder:
        for _ in _each_run(session, session.items, folder):
            pass
    return dict(entered), dict(seconds), failed


def _each_run(session: pytest.Session, items: Sequence[pytest.Item], folder: str) -> Iterator[None]:
    """Runs tests, with their temporary folders in `folder`."""
    factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = Path(folder)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        yield


def _told(results: dict[str, int]) -> None:
    """Prints which mutants lived just now, and of each file how many of those that were ever tried are dead."""
    from mutmut.__main__ import SourceFileMutationData, walk_mutatable_files

    for name, code in results.items():
        if code in {SURVIVED, UNTESTED}:
            print(f"{'lives   ' if code == SURVIVED else 'untested'} {name}")
    rows = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        codes = [code for code in data.exit_code_by_key.values() if code is not None]
        if codes:
            dead = sum(code in {KILLED, LATE} for code in codes)
            rows[str(path).removeprefix("src/muster/")] = (len(data.exit_code_by_key), len(codes), dead)
    rows["all"] = tuple(map(sum, zip(*rows.values(), strict=True))) if rows else (0, 0, 0)
    print(f"\n{'file':45} {'mutants':>8} {'tried':>8} {'dead':>8}")
    for path, (made, tried, dead) in rows.items():
        print(f"{path:45} {made:8} {tried:8} {dead:8} {100 * dead / max(1, tried):6.1f} %")


if __name__ == "__main__":
    main()
