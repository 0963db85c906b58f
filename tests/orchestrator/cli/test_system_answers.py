"""What the system refuses, and what a shell leaves out, reaches the user as a message: what, where, what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muster.cluster import launch, local
from muster.orchestrator.machine.complaints import explained
from muster.orchestrator.methods.loading import load
from muster.workers.errors import UsageError
from muster.workers.packs.cache import cache_folder
from muster.workers.quantities import bytes_text
from tests import ROOT
from tests.cli import MUSTER, Muster, Ran


def shell(muster: Muster, line: str, cwd: Path | None = None, **more: str) -> Ran:
    """A line for bash, in which $M is the command line."""
    done = subprocess.run(
        ["bash", "-c", line], env={**muster.env, "M": str(MUSTER), **more}, cwd=cwd, capture_output=True,
        text=True, errors="surrogateescape", timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", ["runs", "status first", "launch dreml --dry-run", "doctor"])
def test_a_current_folder_that_was_deleted_is_told(
    muster_without_cluster: Muster, tmp_path: Path, command: str
) -> None:
    (tmp_path / "gone").mkdir()
    ran = shell(muster_without_cluster, f'cd gone; rmdir ../gone; "$M" {command}', tmp_path)
    assert ran.code == 2
    assert "the folder that this shell stands in is gone: cd to one" in ran.err


@pytest.mark.parametrize("as_json", ["", "--json"])
@pytest.mark.parametrize("command", ["runs", "data list", "launch dreml --D 1"])
def test_an_answer_that_cant_be_written_is_told(
    muster_without_cluster: Muster, tmp_path: Path, command: str, as_json: str
) -> None:
    ran = shell(muster_without_cluster, f'"$M" {command} {as_json} > /dev/full', tmp_path)
    assert ran.code == 2
    if "--D" not in command or as_json:
        assert "can't write the answer to standard output: No space left on device. Free" in ran.err


@pytest.mark.parametrize("line", ['"$M" runs 2> /dev/full', '"$M" runs >&-', '"$M" runs 2>&-'])
def test_outputs_that_are_closed_or_full_don_t_matter_where_nothing_is_to_be_said(
    muster_without_cluster: Muster, tmp_path: Path, line: str
) -> None:
    assert shell(muster_without_cluster, line, tmp_path).code == 0


@pytest.mark.parametrize("as_json", ["", "--json"])
def test_a_refusal_keeps_its_exit_code_where_nobody_can_hear_it(
    muster_without_cluster: Muster, tmp_path: Path, as_json: str
) -> None:
    ran = shell(muster_without_cluster, f'"$M" launch dreml --D 1 {as_json} 2> /dev/full', tmp_path)
    assert ran.code == 2
    assert not as_json or "D = 1" in ran.document["message"]


@pytest.mark.parametrize("as_json", ["", "--json"])
def test_a_reader_who_leaves_early_is_no_failure(muster_without_cluster: Muster, as_json: str) -> None:
    ran = shell(muster_without_cluster, f'"$M" data list {as_json} | head -1; exit ${{PIPESTATUS[0]}}')
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    "words", [["runs", "--storage"], ["launch", "dreml", "--data-root"], ["status"], ["launch", "dreml", "--name"]]
)  # fmt: skip
def test_an_argument_whose_bytes_are_no_text_is_told(
    muster_without_cluster: Muster, words: list[str]
) -> None:
    ran = shell(muster_without_cluster, f"\"$M\" {' '.join(words)} $'caf\\xe9\\xff'")
    assert ran.code == 2
    assert "caf\\xe9\\xff: this name is not UTF-8. Rename" in ran.err


def test_a_locale_that_is_not_utf8_is_blamed_and_not_the_name(
    muster_without_cluster: Muster, tmp_path: Path, shapes: Path
) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    # Under such a locale Python itself can't read the .pth file of a checkout whose path it can't spell.
    locale["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    python = f'"{sys.executable}" -S -m muster'
    images = shutil.copytree(shapes, tmp_path / "images")
    (images / "class 03").rename(images / "Straße")
    for place in (images / "Straße", images):
        line = f"{python} launch dreml --dry-run --dataset folder --data-root {place}"
        ran = shell(muster_without_cluster, line, tmp_path, **locale)
        assert ran.code == 2
        assert "are UTF-8, which this shell's locale is not" in ran.err.replace("name is UTF", "are UTF")
        assert "Set LC_ALL=C.UTF-8" in ran.err
        assert "Rename" not in ran.err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_letter_that_an_output_lacks_is_shown_by_its_number(
    muster_without_cluster: Muster, tmp_path: Path, encoding: str
) -> None:
    line = '"$M" runs --storage 日本; "$M" launch dreml --D 1 --storage 日本'
    ran = shell(muster_without_cluster, line, tmp_path, PYTHONIOENCODING=encoding)
    assert ran.code == 2
    assert "there is no folder \\u65e5\\u672c yet" in ran.out
    assert "D = 1" in ran.err


def test_a_home_that_nobody_knows_is_told(muster_without_cluster: Muster) -> None:
    ran = muster_without_cluster("runs", "--storage", "~nobody-of-this-name/store", code=2)
    assert "no home folder is known for ~: set HOME" in ran.err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: No space left on device. Free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", b"/a/b"), "/a/b: Disk quota exceeded. Your quota"),
        (PermissionError(errno.EACCES, "Permission denied", "/\x1b[1m"), "/\\x1b[1m: Permission denied. You may not"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files. Too many files are open: raise"),
        (OSError(errno.EIO, "Input/output error", 3), "Input/output error. Reading or writing failed in the disk"),
        (OSError("no number at all"), "no number at all. The system gave no other reason."),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "text that is not utf-8"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), "/x: No such file or directory. Is the"),
        (ValueError("ours"), None),
        (RuntimeError("ours"), None),
    ],
)  # fmt: skip
def test_what_the_system_says_gets_its_cure(error: Exception, said: str | None) -> None:
    found = explained(error)
    assert found is None if said is None else str(found).startswith(said)


def test_an_interruption_from_outside_is_one(muster_without_cluster: Muster, tmp_path: Path) -> None:
    """SIGTERM of a batch system and SIGHUP of a closed terminal, like Ctrl-C: documented as 130."""
    slow = tmp_path / "slow"
    os.mkfifo(slow)  # its reading waits
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process = muster_without_cluster.start("launch", "dreml", "--config", slow)
        with slow.open("w"):  # it has come so far
            time.sleep(0.5)  # and waits: a signal just before the system call would be seen after it
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Interrupted" in err


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.25])
def test_an_interruption_while_modules_are_loaded_is_one_too(
    muster_without_cluster: Muster, seconds: float
) -> None:
    process = muster_without_cluster.start("launch", "dreml", "--config", "/dev/zero", "--json")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    if process.returncode != -signal.SIGTERM:  # Python itself was not up yet
        assert (process.returncode, json.loads(out)["exit_code"]) in (
            (130, 130),
            (2, 2),
        )  # or it had come to its end
        assert "Traceback" not in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_that_python_wraps_is_one_too(
    muster_without_cluster: Muster, tmp_path: Path, name: str
) -> None:
    """Before Python 3.12 it comes as a RuntimeError where a class names its fields."""
    (tmp_path / "wrapped.py").write_text(
        "import os, signal, sys, types\nfrom muster.__main__ import main\n"
        # Ignored below nohup, or in the background.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "class Field:\n"
        "    def __set_name__(self, owner, name):\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "app = types.ModuleType('app')\n"
        "app.main = lambda: type('Settings', (), {'field': Field()})\n"
        "sys.modules['muster.orchestrator.cli.app'] = app\nmain()\n"
    )
    ran = shell(muster_without_cluster, f'"{sys.executable}" wrapped.py --json', tmp_path)
    assert (ran.code, ran.err) == (130, "muster: Interrupted.\n")
    assert ran.document["exit_code"] == 130


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch", "bier", "--dry-run", "--learners", "9" * 5000], "bier.sizes.0"),
        (["evaluate", "x", "--recall-at", "1," + "9" * 5000], "There is no run x"),
        (["launch", "dreml", "--dry-run", "--set", "seed=" + "[" * 50_000], "--set seed: nested too deeply"),
        (["launch", "dreml", "--config", "/dev/zero"], "--config /dev/zero: larger than 1000 kB"),
        (["cluster", "up", "--num-cpus", "-1"], "--num-cpus"),
        (["logs", "x", "--tail", "-3"], "--tail"),
    ],
)
def test_what_is_too_large_too_deep_or_below_nothing_is_refused(
    muster_without_cluster: Muster, tmp_path: Path, words: list[str], said: str
) -> None:
    where = [] if words[0] == "cluster" else ["--storage", str(tmp_path)]
    assert said in muster_without_cluster(*words, *where, code=2).err


def test_a_file_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("x = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"deep\.toml: nested too deeply"):
        load(tmp_path / "deep.toml", {}, [])


@pytest.mark.parametrize("columns", ["0", "1", "00"])
def test_a_terminal_without_columns_gets_the_whole_answer(
    muster_without_cluster: Muster, columns: str
) -> None:
    ran = shell(muster_without_cluster, '"$M" data list', COLUMNS=columns)
    assert "glyphs" in ran.out.replace("\n", "")


def test_a_backend_for_plots_that_is_not_there_matters_to_nobody(
    muster_without_cluster: Muster, tmp_path: Path
) -> None:
    (tmp_path / "plot.py").write_text(
        "import sys\nfrom muster.__main__ import main\nsys.argv = ['muster', 'runs']\n"
        "try:\n    main()\nexcept SystemExit:\n    import matplotlib.pyplot\n    print(matplotlib.get_backend())\n"
    )
    ran = shell(muster_without_cluster, f'"{sys.executable}" plot.py', tmp_path, MPLBACKEND="bogus")
    assert ran.out.splitlines()[-1] == "agg"


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_one_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MUSTER_STATE_DIR", "MUSTER_CACHE", "MUSTER_TEMP_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, value)
    assert cache_folder() == tmp_path / "home/.cache/muster"
    assert local.state_dir() == tmp_path / "home/.local/state/muster"
    assert launch.temp_base() == Path(f"/tmp/muster-{os.getuid()}")
    monkeypatch.setenv("MUSTER_CACHE", "~/here")
    assert cache_folder() == tmp_path / "home/here"


# An empty string is a mistake and never the current folder.


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "--storage", ""],
        ["status", "first", "--storage", " "],
        ["doctor", "--storage", ""],
        ["launch", "dreml", "--storage", ""],
        ["launch", "bier", "--data-root", "", "--dry-run"],
        ["launch", "baseline", "--weights", "", "--dry-run"],
        ["launch", "dreml", "--config", ""],
        ["launch", "dreml", "--name", ""],
        ["search", "--storage", ""],
        ["reproduce", "dreml-table1", "--storage", ""],
        ["data", "pack", "glyphs", "--storage", ""],
        ["data", "check", "folder", "--root", ""],
        ["cluster", "status", "--address", ""],
        ["status", ""],
    ],
)
def test_an_empty_argument_is_refused_by_name(
    muster_without_cluster: Muster, tmp_path: Path, words: list[str]
) -> None:
    ran = shell(muster_without_cluster, '"$M" ' + " ".join(f"'{word}'" for word in words), tmp_path)
    flag = words[words.index("") - 1] if "" in words else "--storage"
    assert ran.code == 2
    assert f"{'RUN' if flag == 'status' else flag} is empty" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["storage", "name", "preset"])
def test_an_empty_setting_is_refused_wherever_it_stands(tmp_path: Path, key: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'{key} = ""\n')
    for given in ((config, {}, []), (None, {}, [f'{key}=""'])):
        with pytest.raises(UsageError, match=f"{key} is empty"):
            load(*given)


# Files of other editors, and modules of other people.


def test_a_configuration_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_bytes(b"\xef\xbb\xbf[ensemble]\r\nL = 3\r\n")
    assert load(config, {"method": "dreml"}, []).ensemble.L == 3
    config.write_bytes("[ensemble]\nL = 3\n".encode("utf-16"))
    with pytest.raises(UsageError, match="not valid TOML"):
        load(config, {"method": "dreml"}, [])


@pytest.mark.parametrize("module", ["muster", "muster.orchestrator.cli", "orchestrator.cli"])
def test_the_command_line_can_be_run_as_a_module(
    muster_without_cluster: Muster, tmp_path: Path, module: str
) -> None:
    line = f'"{sys.executable}" -m {module} runs --storage {tmp_path}'
    assert shell(muster_without_cluster, line, ROOT).out == f"0 runs in {tmp_path}\n"
    assert shell(muster_without_cluster, f"{line} --nonsense", ROOT).code == 2


@pytest.mark.parametrize("name", ["workers", "cluster", "orchestrator"])
def test_a_foreign_module_of_a_common_name_hides_nothing_of_ours(
    muster_without_cluster: Muster, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    env = {**muster_without_cluster.env, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert Muster(env)("runs", "--storage", tmp_path).out == f"0 runs in {tmp_path}\n"


def test_a_checkout_without_its_links_is_refused_with_the_cure(tmp_path: Path) -> None:
    """As git leaves it on a disk without links: a small file with the link's target in it."""
    package = shutil.copytree(ROOT / "src/muster", tmp_path / "muster", symlinks=True)
    (package / "workers").unlink()
    (package / "workers").write_text("../../workers")
    for flags in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "muster", "runs", *flags],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"without its links: {package / 'orchestrator'}" in done.stderr  # it leads nowhere from here
        assert "git clone -c core.symlinks=true" in done.stderr
        assert not flags or json.loads(done.stdout)["exit_code"] == 2


def test_a_part_of_muster_can_t_be_imported_by_its_bare_name() -> None:
    """It would be there twice, and its errors would not be those that muster catches."""
    for name in ("orchestrator", "workers", "cluster"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert f"ImportError: this is a part of muster: import muster.{name}" in done.stderr


# Names and messages from elsewhere.


def test_control_characters_of_names_are_escaped_wherever_they_are_printed(
    muster_without_cluster: Muster, tmp_path: Path, shapes: Path
) -> None:
    images = shutil.copytree(shapes, tmp_path / "images")
    odd = images / "class 02" / "red\x1b[31m\u202e.jpg"
    odd.write_text("no image")
    where = ["--data-root", images, "--storage", tmp_path / "s\x1b[2J"]
    ran = muster_without_cluster("data", "pack", "folder", *where, code=2)
    assert "red\\x1b[31m\\u202e.jpg" in ran.err
    runs = muster_without_cluster("runs", "--storage", tmp_path / "s\x1b[2J")
    assert "s\\x1b[2J" in runs.out
    run = tmp_path / "s\x1b[2J/runs/odd"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"ensemble": {"L": 1}}))
    (run / "events").mkdir()
    event = {
        "event": "end",
        "t": 1,
        "state": "failed",
        "exit_code": 1,
        "message": "\x1b[31mred",
        "answer": None,
    }
    (run / "events/20260101T000000-abcdef-000000.jsonl").write_text(json.dumps(event))
    status = muster_without_cluster("status", "odd", "--storage", tmp_path / "s\x1b[2J")
    assert "\\x1b[31mred" in status.out
    broken = muster_without_cluster("runs", "--storage", f"{tmp_path}/a\nmuster: forged")
    assert "\nmuster: forged" not in broken.out
    for text in (ran.err, ran.out, runs.out, runs.err, status.out, status.err):
        assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (19_660_800, "19.7 MB"), (999_960, "1.0 MB"), (48e6, "48.0 MB"),
     (3e9, "3.0 GB"), (999.96e9, "1.0 TB"), (2e15, "2000.0 TB")],
)  # fmt: skip
def test_sizes_have_the_unit_that_fits(count: float, text: str) -> None:
    assert bytes_text(count) == text
