"""A real Slurm of several nodes on this machine: no systemd, no cgroups, made-up GPUs.

As a program: `python slurm_cluster.py FOLDER [SECONDS]` starts one in a folder, says how to use it,
and stops it at the end of its input, on a signal, or after the seconds (half an hour).

It needs root, the Debian packages slurm-wlm and munge (T2I_SLURM=install has them installed), and
/etc/slurm/slurm.conf, because Snakemake's plugin removes SLURM_CONF from the environment of jobs.
With accounting it needs slurmdbd and mariadb-server, too, which nothing installs.
All of it listens on the loopback interface alone, and ends by itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from debian import install

VARIABLE = "T2I_SLURM"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
DATABASE = ("slurmdbd", "mariadbd", "mariadb-install-db")
START_SECONDS = 30.0


def missing(accounting: bool = False) -> str | None:
    """Why no cluster can be started here, None where it can; installs Slurm where that is asked."""
    if os.geteuid() != 0:
        return "a Slurm cluster of our own needs root"
    if SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} is another cluster's"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent and os.environ.get(VARIABLE) == "install":
        install("slurm-wlm", "munge")
        absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if accounting:
        absent += [name for name in DATABASE if shutil.which(name) is None]
    return (
        f"Slurm is not installed: no {', '.join(absent)} ({VARIABLE}=install)" if absent else None
    )


def _free_ports(number: int) -> list[int]:
    taken = [socket.socket() for _ in range(number)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Cluster:
    """Daemons by name, and the commands of their cluster."""

    def __init__(
        self, folder: Path, nodes: int, cpus: int, gpus: int, seconds: int, accounting: bool
    ) -> None:
        """Write the configuration; nothing runs yet."""
        self.folder = folder.resolve()
        self._accounting = accounting
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._seconds = seconds
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._conf = self.folder / "slurm.conf"
        self._configure(cpus, gpus)

    def _configure(self, cpus: int, gpus: int) -> None:
        for name in ("state", "log", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge/key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for number in range(gpus):
            os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))  # as /dev/null
        devices = f"{self.folder}/gpu[0-{gpus - 1}]"
        (self.folder / "gres.conf").write_text(
            f"Name=gpu Type=fake Flags=nvidia_gpu_env File={devices}\n" if gpus else ""
        )
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        host = socket.gethostname().split(".")[0]
        control, self._storage, *ports = _free_ports(2 + len(self.nodes))
        lines = {
            "ClusterName": "own",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": control,
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": f"{self.folder}/spool.%n",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": f"{self.folder}/%n.pid",
            "SlurmctldLogFile": self.folder / "log/slurmctld.log",
            "SlurmdLogFile": f"{self.folder}/log/%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/linux",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "SlurmdParameters": "config_overrides",  # nodes have the memory that is written here
            "SlurmdTimeout": 20,
            "ReturnToService": 2,
            "SchedulerParameters": "sched_interval=2,batch_sched_delay=0,defer_batch",
            "GresTypes": "gpu",
            "AccountingStorageType": "accounting_storage/none",
        }
        if self._accounting:
            lines |= self._database(self._storage)
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        gres = f"Gres=gpu:fake:{gpus}" if gpus else ""
        for name, port in zip(self.nodes, ports, strict=True):
            text += (
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
                f"RealMemory=64000 {gres} State=UNKNOWN\n"
            )
        text += "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        self._conf.write_text(text)

    def _database(self, port: int) -> dict[str, object]:
        """Write what the accounting reads; lines for slurm.conf."""
        lines = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket",
            "CommunicationParameters": "NoInAddrAny",
            "DbdHost": socket.gethostname().split(".")[0],
            "DbdAddr": "127.0.0.1",
            "DbdPort": port,
            "SlurmUser": "root",
            "LogFile": self.folder / "log/slurmdbd.log",
            "PidFile": self.folder / "slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "root",
        }
        conf = self.folder / "slurmdbd.conf"
        conf.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        conf.chmod(0o600)
        return {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": port,
            "AccountingStoragePass": self.folder / "munge/socket",  # with munge, its socket
        }

    def _start_database(self) -> None:
        """MariaDB, which only a socket leads to, and Slurm's daemon before it."""
        data, place = self.folder / "database", self.folder / "database.socket"
        options = [f"--datadir={data}", "--user=root", "--skip-test-db"]
        with (self.folder / "log/install-db.out").open("wb") as log:
            words = ["mariadb-install-db", "--no-defaults", *options]
            words += ["--auth-root-authentication-method=socket"]
            subprocess.run(words, stdout=log, stderr=log, timeout=120, check=True)
        words = ["mariadbd", "--no-defaults", *options[:2], f"--socket={place}"]
        self._run("mariadbd", [*words, "--skip-networking"])
        self._wait("mariadbd", place.exists)
        self._run("slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(place))
        self._wait("slurmdbd", lambda: _answers(self._storage))

    @property
    def environment(self) -> dict[str, str]:
        """With which programs of Slurm find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self._conf)}

    def call(self, *words: str) -> str:
        """What a program of Slurm prints; raises CalledProcessError where it fails."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def _run(self, name: str, words: Sequence[str], **environment: str) -> None:
        bounded = ["timeout", "--kill-after=5", str(self._seconds), *words]
        log = (self.folder / "log" / f"{name}.out").open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                bounded,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self, what: str, met) -> None:
        end = time.monotonic() + START_SECONDS
        while not met():
            if time.monotonic() > end:
                logs = (self.folder / "log").iterdir()
                tails = [f"{log.name}: {log.read_text()[-2000:]}" for log in logs]
                raise TimeoutError("\n".join([f"{what}: not within {START_SECONDS:g} s", *tails]))
            time.sleep(0.2)

    def start(self) -> None:
        """Start everything; raises TimeoutError with the logs when it does not come up."""
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        SYSTEM_CONF.unlink(missing_ok=True)  # a link that leads nowhere, see `missing`
        SYSTEM_CONF.symlink_to(self._conf)
        munge = self.folder / "munge"
        words = ["munged", "--foreground", "--force", f"--socket={munge}/socket"]
        words += [f"--{kind}-file={munge}/{kind}" for kind in ("key", "pid", "log", "seed")]
        self._run("munged", words)
        self._wait("munged", (munge / "socket").exists)
        if self._accounting:
            self._start_database()
        self._run("slurmctld", ["slurmctld", "-D", "-i"])
        self._wait("slurmctld", lambda: "UP" in self._ping())
        for node in self.nodes:
            self.start_node(node)

    def _ping(self) -> str:
        try:
            return self.call("scontrol", "ping")
        except subprocess.CalledProcessError:
            return ""

    def state(self, node: str) -> str:
        """A node's state in Slurm's words."""
        return self.call("sinfo", "-h", "-n", node, "-o", "%T").strip()

    def start_node(self, node: str) -> None:
        """Start a node's daemon and wait until it takes jobs."""
        self._run(node, ["slurmd", "-D", "-N", node])
        up = ("idle", "mixed", "allocated", "completing")
        self._wait(f"{node} is {self.state(node)}", lambda: self.state(node) in up)

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon, its jobs and what watches over them, as a loss of power does."""
        daemon = self._daemons.pop(node)
        _kill({daemon.pid, *_children(daemon.pid)})  # `timeout`, and what it runs
        while processes := self._processes_of(node):
            parents = {_parent(process) for process in processes}
            _kill({*processes, *(one for one in parents if _name(one) == "slurmstepd")})
            time.sleep(0.05)
        daemon.wait()

    def _processes_of(self, node: str) -> list[int]:
        """What this cluster's jobs run on a node."""
        wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self._conf}".encode()}
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted <= set(entry.read_bytes().split(b"\0")):
                    found.append(int(entry.parent.name))
        return found

    def stop(self) -> None:
        """End all jobs and daemons."""
        with suppress(subprocess.CalledProcessError):  # one that did not start answers nothing
            for job in self.call("squeue", "-h", "-o", "%A").split():
                subprocess.run(["scancel", job], env=self.environment, timeout=30, check=False)
            end = time.monotonic() + 10
            while self.call("squeue", "-h") and time.monotonic() < end:
                time.sleep(0.2)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            daemon.wait(20)
        self._daemons.clear()
        SYSTEM_CONF.unlink(missing_ok=True)


def _kill(processes: set[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _status(process: int) -> dict[str, str]:
    with suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {}


def _parent(process: int) -> int:
    return int(_status(process).get("PPid", 0))


def _name(process: int) -> str:
    return _status(process).get("Name", "")


def _children(process: int) -> list[int]:
    numbers = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
    return [number for number in numbers if _parent(number) == process]


@contextmanager
def slurm_cluster(
    folder: Path,
    nodes: int = 2,
    cpus: int = 2,
    gpus: int = 2,
    seconds: int = 1800,
    accounting: bool = False,
) -> Iterator[Cluster]:
    """A running cluster, which is stopped with the block."""
    cluster = Cluster(folder, nodes, cpus, gpus, seconds, accounting)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def main() -> None:
    """Run a cluster until the end of the input."""
    problem = missing()
    if problem is not None:
        sys.exit(problem)
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 1800
    with slurm_cluster(Path(sys.argv[1]), seconds=seconds) as cluster:
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
        signal.alarm(seconds)
        sys.stdin.read()


if __name__ == "__main__":
    main()
