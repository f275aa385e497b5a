"""RabbitMQ and ejabberd as the suite packages them, on an executable that has taken the place of C's epmd."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from support.patience import LONG

from .steps import CHECKOUT, Failed, Log, Seen, last_line, wait_until

MAPPER = "epmd"
FOLDER, ONE_FILE = CHECKOUT / "dist" / "gevent-epmd" / "epmd", CHECKOUT / "dist" / "epmd"


class RabbitMQ:
    """Two brokers of one host."""

    package = "rabbitmq-server"
    first, second = "a@newest", "b@newest"

    def __init__(self, log: Log) -> None:
        self._log = log

    def clean(self) -> None:
        shutil.rmtree("/var/lib/rabbitmq/mnesia", ignore_errors=True)

    def start(self, node: str) -> None:
        amqp = "5672" if node == self.first else "5673"
        self._log.run(
            "rabbitmq-server",
            "-detached",
            patience=LONG,
            RABBITMQ_NODENAME=node,
            RABBITMQ_NODE_PORT=amqp,
        )
        wait_until(lambda: node.partition("@")[0] in names(self._log), f"{node} to register")
        self.call(node, "await_startup")

    def call(self, node: str, *command: str) -> str:
        return self._log.run("rabbitmqctl", "-n", node, *command, patience=LONG)

    def join(self) -> None:
        self.call(self.second, "stop_app")
        self.call(self.second, "join_cluster", self.first)
        self.call(self.second, "start_app")

    def members(self, node: str) -> set[str]:
        said = self.call(node, "cluster_status", "--formatter", "json")
        return set(json.loads(said[said.index("{") :])["running_nodes"])

    def stop(self, node: str) -> None:
        self.call(node, "shutdown")


class Ejabberd:
    """The node of the package's configuration, and one without listeners."""

    package = "ejabberd"
    first, second = "ejabberd@localhost", "second@localhost"
    _other = Path("/var/lib/ejabberd-second")

    def __init__(self, log: Log) -> None:
        self._log = log

    def clean(self) -> None:
        for database in Path("/var/lib/ejabberd").glob("*.D*"):
            database.unlink()
        for path in ("/var/lib/ejabberd/schema.DAT", "/var/lib/ejabberd/LATEST.LOG"):
            Path(path).unlink(missing_ok=True)
        shutil.rmtree(self._other, ignore_errors=True)
        self._other.mkdir()
        (self._other / "ejabberd.yml").write_text("hosts: [localhost]\nlisten: []\nmodules: {}\n")
        (self._other / "ejabberdctl.cfg").write_text(f"EJABBERD_PID_PATH={self._other}/pid\n")
        Path("/run/ejabberd").mkdir(exist_ok=True)
        for folder in (self._other, *self._other.iterdir(), Path("/run/ejabberd")):
            shutil.chown(folder, "ejabberd", "ejabberd")

    def _command(self, node: str) -> list[str]:
        where = {
            "--config": self._other / "ejabberd.yml",
            "--ctl-config": self._other / "ejabberdctl.cfg",
            "--spool": self._other,
            "--logs": self._other,
        }
        options = [str(word) for pair in where.items() for word in pair] if node == self.second else []
        return ["ejabberdctl", "--node", node, *options]

    def call(self, node: str, *command: str) -> str:
        return self._log.run(*self._command(node), *command, patience=LONG)

    def start(self, node: str) -> None:
        self.call(node, "start")
        self.call(node, "started")

    def join(self) -> None:
        self.call(self.second, "join_cluster", self.first)
        wait_until(lambda: len(self.members(self.second)) == 2, "the nodes to be one cluster")
        self.call(self.second, "started")

    def members(self, node: str) -> set[str]:
        """None while a node restarts as a member."""
        status, said = self._log.call(*self._command(node), "list_cluster", patience=LONG)
        return set() if status else set(re.findall(r"[\w.]+@[\w.]+", said))

    def stop(self, node: str) -> None:
        self.call(node, "stop")
        self.call(node, "stopped")


SERVICES = (RabbitMQ, Ejabberd)


def play(service: type[RabbitMQ] | type[Ejabberd], log: Log) -> Seen:
    """Start, status, join, restart of the mapper beneath, stop."""
    nodes = service(log)
    both = {nodes.first, nodes.second}
    nodes.clean()
    for node in (nodes.first, nodes.second):
        nodes.start(node)
        nodes.call(node, "status")
    check_mapper()
    nodes.join()
    check_members(nodes, both)
    restart_mapper(log, {node.partition("@")[0] for node in both})
    check_members(nodes, both)
    for node in (nodes.second, nodes.first):
        nodes.call(node, "status")
        nodes.stop(node)
    wait_until(lambda: not names(log), "both to be unregistered")
    return Seen("start, status, join of two nodes, restart of the mapper, status, stop")


def take_over(service: type[RabbitMQ] | type[Ejabberd], log: Log) -> Seen:
    """C's epmd serves a cluster of two nodes. The executable takes its place, and they notice nothing."""
    nodes = service(log)
    both = {nodes.first, nodes.second}
    nodes.clean()
    log.run(MAPPER, "-daemon")
    for node in (nodes.first, nodes.second):
        nodes.start(node)
    nodes.join()
    check_members(nodes, both)
    before = names(log), connections()
    told = log.run(str(ONE_FILE), "-takeover", "-daemon")
    if "took over 2 nodes from process" not in told:
        raise Failed(f"it says {last_line(told)}")
    check_mapper(ONE_FILE)
    if (names(log), connections()) != before:
        raise Failed("a node has registered again")
    check_members(nodes, both)
    for node in both:
        nodes.call(node, "status")
    nodes.stop(nodes.second)
    wait_until(lambda: names(log) == {nodes.first.partition("@")[0]}, "the node that ended to be gone")
    # They find each other by this epmd.
    nodes.start(nodes.second)
    wait_until(lambda: nodes.members(nodes.first) == both, "it to be a member again")
    for node in (nodes.second, nodes.first):
        nodes.stop(node)
    wait_until(lambda: not names(log), "both to be unregistered")
    return Seen("names and connections of two nodes stay, status, restart of a node, stop")


def connections() -> set[str]:
    """The inodes of the nodes' own sockets: a node that registers again has another one."""
    command = ["ss", "-tneH", "state", "established", "dport = 4369"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\bino:(\d+)", said))


def check_members(nodes: RabbitMQ | Ejabberd, expected: set[str]) -> None:
    for node in expected:
        members = nodes.members(node)
        if members != expected:
            raise Failed(f"{node} sees {sorted(members)}")


def names(log: Log) -> set[str]:
    """The registered names; none where no mapper runs."""
    _, said = log.call(MAPPER, "-names")
    return set(re.findall(r"^name (\S+) at port", said, re.MULTILINE))


def restart_mapper(log: Log, expected: set[str]) -> None:
    """By kill, as after a crash; nodes register again by themselves."""
    end_mapper()
    log.run(MAPPER, "-daemon")
    wait_until(lambda: expected <= names(log), "the nodes to register again")


def end_mapper() -> None:
    for pid in mappers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not mappers(), "the mapper to end")


def check_mapper(executable: Path = FOLDER) -> None:
    """It is ours that serves, in this form."""
    ours = executable.read_bytes()
    running = {Path(f"/proc/{pid}/exe").read_bytes() for pid in mappers()}
    if running != {ours}:
        raise Failed("the mapper is not the one that was built")


def mappers() -> set[int]:
    """The processes that serve at epmd's port; a test that failed may have left others at other ports."""
    command = ["ss", "-ltnpH", "sport = 4369"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(pid) for pid in re.findall(r"\bpid=(\d+)", said)}
