"""No byte leaves the machine: whole turns with the real model and the real embedder where there is no network at all.

Two ways at once, since neither alone shows all: an empty network namespace (Linux, where the system allows one), in
which even native code has nowhere to go; and, everywhere, an audit hook in every Python process that refuses to name or
reach a host, so that an attempt is seen even if its failure would be swallowed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

PROBE = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=3)
except OSError as error:
    print(error.errno)
"""

#: Python runs it at start in every process that inherits PYTHONPATH: the program's, the embedder's, any other's.
HOOK = """
import os, sys

LOG = {log!r}

def note(line):
    with open(LOG, "a") as file:
        file.write(f"{{os.getpid()}} {{line}}\\n")

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"):
        note(f"{{event}} {{arguments[0]!r}}")
        raise OSError("the network is off in this test")
    if event in ("socket.connect", "socket.sendto", "socket.bind") and isinstance(arguments[1], tuple):
        note(f"{{event}} {{arguments[1]!r}}")
        raise OSError("the network is off in this test")

note("started " + " ".join(sys.orig_argv[1:]))
sys.addaudithook(watch)
"""


@cache
def namespace() -> tuple[str, ...] | None:
    """What runs a command in an empty network namespace; None where the system does not allow one."""
    for command in (("unshare", "-rn"), ("unshare", "-n")):
        try:
            done = subprocess.run([*command, sys.executable, "-c", PROBE], capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip():
            return command
    return None


def localmem(
    *arguments: str, prefix: Sequence[str] = (), path: Sequence[str | Path] = ()
) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own, with no switch that tells a library to stay offline."""
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment = {key: value for key, value in os.environ.items() if key not in offline}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*path, ROOT]))
    command = [*prefix, sys.executable, "-m", "localmem", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, input="")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def a_turn(home: Path, **options: Any) -> None:
    """A turn, and a search by meaning, each in a new process."""
    said = "My name is Ada and I have a kitten called Socks."
    one_thread = home / "one-thread.yaml"  # others may be testing beside us
    one_thread.write_text("version: 1\ndefaults: {threads: 1}\n")
    small = ("--n-ctx", "4096", "--prompt", "compact", "--seed", "1", "--json")
    turn = json.loads(localmem("--models", str(one_thread), "run", "-a", "t", *small, said, **options).stdout)
    assert turn["events"][0]["text"] == said
    assert turn["reply"]
    found = json.loads(localmem("search", "-a", "t", "cats", "--kind", "recall", "--json", **options).stdout)
    assert said in json.dumps(found), "only an embedder knows that a kitten is a cat"


def test_no_process_names_or_reaches_a_host(with_models: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "hook", tmp_path / "log.txt"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    a_turn(with_models, prefix=namespace() or (), path=[folder])
    lines = log.read_text().splitlines()
    started = [line for line in lines if line.split()[1] == "started"]
    assert lines == started, "a process tried to leave the machine"
    assert any("-m localmem --models" in line for line in started)
    assert any("localmem.memory.embedder" in line for line in started), "the embedder's process must be watched too"


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_the_turn_above_ran_in_an_empty_network_namespace() -> None:
    if namespace() is None:
        pytest.skip("this system allows no network namespace (unshare -rn, unshare -n); the hook above still holds")


def test_the_hook_bites(tmp_path: Path) -> None:
    """It refuses what it is there to refuse; else the test above would prove nothing."""
    log = tmp_path / "log.txt"
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for attempt in (
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=3)",
        "import socket; socket.getaddrinfo('localmem.invalid', 443)",
        "import urllib.request; urllib.request.urlopen('http://localmem.invalid/')",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ):
        done = subprocess.run(
            [sys.executable, "-c", attempt], capture_output=True, text=True, env=environment, timeout=30, check=False
        )
        assert done.returncode == 1
        assert "the network is off in this test" in done.stderr, attempt
    assert len([line for line in log.read_text().splitlines() if " started " not in line]) >= 4
