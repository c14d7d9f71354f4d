"""A publisher's own program: a small script in its place."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch import command
from tests.pipelines.fetch.archives import make_zip

DATA = bytes(range(256)) * 100
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def part(project, tmp_path, monkeypatch):
    """A function that writes a card with a command part: a Python script as the program."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def write(script: str, *downloads: dict, **more) -> None:
        path = programs / "dataload"
        lead = f"#!{sys.executable}\nimport sys, os, time\nfolder, name = sys.argv[1:]\n"
        path.write_text(f"{lead}DATA = bytes(range(256)) * 100\n{script}\n")
        path.chmod(0o755)
        known = {"kind": "command", "command": ["dataload", "{folder}", "{file}"]}
        known["downloads"] = list(downloads) or [{"file": "data.bin", "sha256": SHA256}]
        known["account"] = "https://example.org/register"
        project.card(data=known | more)

    return write


LOAD = "open(f'{folder}/{name}', 'wb').write(DATA)"


def test_the_program_is_run_for_each_file_that_is_missing(project, part):
    script = LOAD + "\nopen(__file__ + '.log', 'a').write(name + ' ')"
    part(script, *({"file": name, "sha256": SHA256} for name in ("a.bin", "b.bin")))
    project.downloads.mkdir(parents=True)
    (project.downloads / "a.bin").write_bytes(DATA)
    assert project.fetch() == {"a.bin": DATA, "b.bin": DATA}
    first = project.receipt.read_bytes()
    assert project.fetch() == {"a.bin": DATA, "b.bin": DATA}
    assert project.receipt.read_bytes() == first
    assert {path.name for path in project.downloads.iterdir()} == {"a.bin", "b.bin"}


def test_a_program_that_nobody_looked_at_is_shown_and_not_run(project, part):
    part(LOAD + "\nopen(__file__ + '.log', 'a').write(name)")
    listed = project.root / "params/datasets/commands.json"
    for content in (None, [], [["dataload", "{folder}"]], [["dataload {folder} {file}"]]):
        if content is not None:
            listed.write_text(json.dumps(content))
        with pytest.raises(PipelineError) as told:
            project.fetch(allow_commands=False)
        assert "made_up.yaml: source.parts.data.command: would run a program" in str(told.value)
        assert "\n  dataload '{folder}' '{file}'\n" in str(told.value)
        assert "--allow-commands" in str(told.value) and str(told.value).count("commands.json") == 1
    assert not list(project.root.parent.glob("bin/*.log"))
    listed.write_text('{"a": 1}')
    with pytest.raises(PipelineError, match="commands.json: expected a list of commands"):
        project.fetch(allow_commands=False)
    listed.write_text(json.dumps([["dataload", "{folder}", "{file}"]]))
    assert project.fetch(allow_commands=False) == {"data.bin": DATA}


def test_files_put_there_by_hand_need_no_program(project, part, tmp_path):
    part(LOAD, command=["no_such_program"])
    with pytest.raises(PipelineError, match="no_such_program is not on PATH") as raised:
        project.fetch()
    said = (
        "download data.bin from https://example.org/register and put into data/downloads/made_up/"
    )
    assert said in str(raised.value)
    (project.downloads / "data.bin").write_bytes(DATA[1:])
    with pytest.raises(PipelineError, match="data/downloads/made_up/data.bin has the sha256"):
        project.fetch()
    (project.downloads / "data.bin").write_bytes(DATA)
    assert project.fetch() == {"data.bin": DATA}


def test_it_says_how_to_install_the_program(project, part):
    part(LOAD, command=["no_such_program"], install="pip install no-such-program")
    with pytest.raises(PipelineError, match=r"install it \(pip install no-such-program\)"):
        project.fetch()


def test_archives_of_one_part_may_repeat_a_file(project, part, tmp_path):
    project.downloads.mkdir(parents=True)
    files = {}
    for name in ("a", "b"):
        content = {"licence.txt": f"of {name}".encode(), f"{name}/one": b"1"}
        make_zip(project.downloads / f"{name}.zip", content)
        files |= content
    archives = [{"file": f"{n}.zip", "unpack": True, "unpacked_bytes": 1000} for n in "ab"]
    part(LOAD, *archives)
    assert project.fetch() == files


def test_a_program_without_what_it_needs_fails_with_its_last_words(project, part, monkeypatch):
    part("print('Name:'); input()", credentials=["LOAD_USER", "LOAD_PASSWORD"])
    with pytest.raises(PipelineError, match="dataload ended with status 1") as raised:
        project.fetch()
    assert "EOFError" in str(raised.value)
    assert "set LOAD_USER and LOAD_PASSWORD" in str(raised.value)
    assert "https://example.org/register" in str(raised.value)


def test_credentials_are_lines_of_its_input_and_written_nowhere(project, part, monkeypatch, capfd):
    monkeypatch.setenv("LOAD_USER", "somebody")
    monkeypatch.setenv("LOAD_PASSWORD", "hidden word")
    ask = "import getpass\nuser, word = input(), getpass.getpass()\nstore = input()\n"
    check = "assert (user, word, store) == ('somebody', 'hidden word', '')\n"
    part(ask + check + LOAD, credentials=["LOAD_USER", "LOAD_PASSWORD"])
    assert project.fetch() == {"data.bin": DATA}
    (project.downloads / "data.bin").unlink()
    leak = "print(user, word, word.replace(' ', '+'))\nsys.exit('no, ' + word)"
    part(ask + leak, credentials=["LOAD_USER", "LOAD_PASSWORD"])
    with pytest.raises(PipelineError, match=r"no, \*\*\*") as raised:
        project.fetch()
    written = str(raised.value) + "".join(capfd.readouterr())
    assert "See that LOAD_USER and LOAD_PASSWORD are right" in written
    paths = [path for root in ("work", "data") for path in (project.root / root).rglob("*")]
    written += "".join(path.read_text("latin-1") for path in paths if path.is_file())
    assert "hidden" not in written


def test_it_has_no_terminal_to_ask_on(project, part):
    part("os.open('/dev/tty', os.O_RDWR)")
    with pytest.raises(PipelineError, match="/dev/tty"):
        project.fetch()


def test_a_program_that_leaves_no_file_is_an_error(project, part):
    part("print('done')")
    with pytest.raises(PipelineError, match="dataload ended well but left no data.bin"):
        project.fetch()


def test_a_wrong_file_is_an_error(project, part):
    part("open(f'{folder}/{name}', 'wb').write(b'wrong')")
    with pytest.raises(PipelineError, match=r"data.bin.part/data.bin has the sha256.*delete"):
        project.fetch()
    assert project.fetched() == {}


def test_a_program_that_breaks_off_is_run_again_while_it_gets_on(project, part):
    script = (
        "path = f'{folder}/{name}'\n"
        "done = os.path.getsize(path) if os.path.exists(path) else 0\n"
        "open(path, 'ab').write(DATA[done : done + 9000])\n"
        "sys.exit(done + 9000 < len(DATA))"
    )
    part(script)
    assert project.fetch() == {"data.bin": DATA}


def test_a_whole_file_of_a_killed_program_is_taken(project, part):
    part("sys.exit('nothing left to resume')")
    (project.downloads / "data.bin.part").mkdir(parents=True)
    (project.downloads / "data.bin.part/data.bin").write_bytes(DATA)
    assert project.fetch() == {"data.bin": DATA}


def test_a_program_that_stands_still_is_stopped(project, part, monkeypatch):
    monkeypatch.setattr(command, "STALL_SECONDS", 0.5)
    part("time.sleep(600)")
    with pytest.raises(PipelineError, match="neither printed nor wrote anything for 0.5 s"):
        project.fetch()


def test_the_lock_outlives_a_kill_for_as_long_as_the_program_runs(project, part, tmp_path):
    """Otherwise a second program would write into the folder of the first."""
    log = tmp_path / "log"
    script = (
        f"log = open({str(log)!r}, 'a', buffering=1)\n"
        "log.write(f'{os.getpid()} begins\\n')\n"
        f"while not os.path.exists({str(tmp_path / 'go_on')!r}): time.sleep(0.02)\n"
        f"log.write(f'{{os.getpid()}} ends\\n')\n{LOAD}"
    )
    part(script)
    first = project.start()
    wait_for(lambda: log.exists() and "begins" in log.read_text())
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = project.start()
    assert "waiting for another process" in second.stderr.readline()
    assert log.read_text().count("begins") == 1
    (tmp_path / "go_on").touch()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert project.fetched() == {"data.bin": DATA}
    assert log.read_text().split()[1::2] in (["begins", "ends"], ["begins", "ends"] * 2)


def wait_for(condition, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
