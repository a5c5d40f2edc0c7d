#!/usr/bin/env python3
"""A Ray cluster of several nodes on this machine, in one command; every server listens on 127.0.0.1 only.

    eval "$(cluster/local.py up --nodes 3)"     # start, wait until all nodes are alive, export the addresses
    ray job submit jobs/distill.yaml            # jobs run in the repository root
    cluster/local.py kill node-2                # a node is lost, as in a crash
    cluster/local.py kill node-1 --notice       # a node is reclaimed: it drains for up to 30 s, then goes
    cluster/local.py add                        # a node joins
    cluster/local.py down                       # end what was started here, and nothing else

Standard output carries only lines for a shell; what is going on is told on standard error.
"""
# ruff: noqa: T201 - a command speaks by printing

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from local_cluster import nodes
from local_cluster.nodes import S3_BUCKET, LocalClusterError
from local_cluster.processes import StateFile, end

GCS_PORT, DASHBOARD_PORT = 6379, 8265  # Ray's own: with them `ray job submit` needs no address


def main() -> int:
    """Run the command that was asked for; a mistake of the user ends with 1 and a sentence."""
    args = parse_arguments()
    try:
        args.command(args)
    except LocalClusterError as error:
        print(f"cluster/local.py: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=nodes.ROOT / "build/local-cluster",
        help="where state and logs are kept; one directory is one cluster (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="up|down|env|add|kill")
    start = commands.add_parser("up", help="start a cluster")
    start.set_defaults(command=up)
    start.add_argument("--nodes", type=int, default=2, help="the head is one of them (default: %(default)s)")
    start.add_argument("--cpus-per-node", type=int, default=2, help="as Ray counts them (default: %(default)s)")
    start.add_argument("--free-ports", action="store_true", help="whichever are free, instead of Ray's 6379 and 8265")
    start.add_argument("--s3", action="store_true", help=f"with a local S3 server that has a bucket {S3_BUCKET!r}")
    commands.add_parser("down", help="end everything that was started").set_defaults(command=down)
    commands.add_parser("env", help="print what `up` printed").set_defaults(command=print_environment)
    commands.add_parser("add", help="start one more node").set_defaults(command=add)
    lose = commands.add_parser("kill", help="end one node")
    lose.set_defaults(command=kill)
    lose.add_argument("node", help="node-1, node-2, ...")
    lose.add_argument("--notice", action="store_true", help="SIGTERM, as a spot machine gets, instead of SIGKILL")
    return parser.parse_args()


def up(args: argparse.Namespace) -> None:
    """Start a cluster and wait until all of its nodes are alive; nothing half started stays behind."""
    path = state_path(args)
    if path.exists():
        raise LocalClusterError(f"a cluster is up already, or was left behind ({path}); run `cluster/local.py down`")
    if min(args.nodes, args.cpus_per_node) < 1:
        raise LocalClusterError("--nodes and --cpus-per-node are at least 1")
    ports = (nodes.free_port(), nodes.free_port()) if args.free_ports else (GCS_PORT, DASHBOARD_PORT)
    for port in ports:
        if nodes.is_taken(port):
            raise LocalClusterError(f"port {port} is taken, perhaps by another Ray cluster; end it or use --free-ports")
    path.parent.mkdir(parents=True, exist_ok=True)
    state = StateFile(path, env=nodes.cluster_environment(*ports))
    state.node_flags = nodes.node_flags(args.nodes, args.cpus_per_node)
    # Not under TMPDIR: the path of a UNIX socket has at most 107 bytes, and Ray appends about 65.
    state.temp_dir = tempfile.mkdtemp(prefix="ray-local-", dir="/tmp")
    state.write()
    try:
        if args.s3:
            nodes.start_s3(state)
        nodes.start_head(state)
        for _ in range(args.nodes - 1):
            nodes.start_worker(state)
        nodes.wait_for_all_nodes(state)
    except BaseException:  # Ctrl-C too: nothing half started stays behind
        down(args)
        raise
    print(f"{args.nodes} nodes are alive; dashboard and jobs: {state.env['RAY_API_SERVER_ADDRESS']}", file=sys.stderr)
    print_environment(args)


def down(args: argparse.Namespace) -> None:
    """End what `up` and `add` started, and nothing else."""
    state = read_state(args)
    survivors = state.stop()
    if survivors:
        raise LocalClusterError(f"processes {survivors} have not ended yet; run `cluster/local.py down` again")
    shutil.rmtree(state.temp_dir, ignore_errors=True)  # Ray's logs of this cluster, spilled objects
    state.path.unlink()


def print_environment(args: argparse.Namespace) -> None:
    """Say, as lines for a shell, where the cluster is."""
    for name, value in read_state(args).env.items():
        print(f"export {name}={shlex.quote(value)}")


def add(args: argparse.Namespace) -> None:
    """Start one more node."""
    print(f"{nodes.start_worker(read_state(args)).name} is alive", file=sys.stderr)


def kill(args: argparse.Namespace) -> None:
    """End one node, as in a crash or with a spot machine's notice."""
    state = read_state(args)
    workers = {started.name: started for started in nodes.living_nodes(state) if started.name != "head"}
    if args.node not in workers:
        raise LocalClusterError(f"no node {args.node!r} to end; there are: {', '.join(workers) or 'none'}")
    if args.notice:  # to `ray start` alone: it tells the head, which tells the job, and ends the others in the end
        os.kill(workers[args.node].pid, signal.SIGTERM)
    else:
        end(state.members([workers[args.node]], marked=False), signal.SIGKILL, 5)


def state_path(args: argparse.Namespace) -> Path:
    """The file that tells what was started."""
    return args.state_dir / "state.json"


def read_state(args: argparse.Namespace) -> StateFile:
    """What was started.

    Raises:
        LocalClusterError: nothing was.
    """
    try:
        return StateFile.read(state_path(args))
    except FileNotFoundError:
        raise LocalClusterError(f"no cluster is up ({state_path(args)} does not exist)") from None


if __name__ == "__main__":
    sys.exit(main())
