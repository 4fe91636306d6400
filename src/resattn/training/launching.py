"""How the processes that train together are started: by torchrun, on this machine, or on each of several."""

import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch

from resattn.errors import ResattnError
from resattn.hardware import usable_cores

PORT = 29400
# What netdevice(7) calls the request for an interface's address.
_SIOCGIFADDR = 0x8915


def launch(
    arguments: Sequence[str], *, devices: int, nodes: int = 1, head: str | None = None, restarts: int = 0
) -> NoReturn:
    """Run `resattn` with these arguments in `devices` processes on this machine, under torchrun, and exit as they did.

    Where there are several `nodes`, each runs the same command, and they meet at `head`, HOST or HOST:PORT. When a
    process dies, all are started anew, `restarts` times at most. Raises ResattnError where `head` is missing or no
    host, machines do not find each other, and there are fewer GPUs than processes.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    if not torch.cuda.is_available():
        # torchrun gives each process one thread where nothing else is said.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // devices)))
    elif devices > torch.cuda.device_count():
        raise ResattnError(
            f"--devices is {devices}, and this machine has {torch.cuda.device_count()} GPUs",
            "give as many at most: each process has one of its own",
        )
    # A store of its own for each start: machines count starts differently, so that a prefix (`together`) cannot help.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # What went wrong the processes themselves say; torchrun would add a page to it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    counts = ["--nproc-per-node", str(devices), "--nnodes", str(nodes), "--max-restarts", str(restarts)]
    try:
        torchrun = parse_args([*counts, *_meeting(nodes, head), "-m", "resattn", *arguments])  # type: ignore[no-untyped-call]
        run(torchrun)  # type: ignore[no-untyped-call]
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except RendezvousError as error:
        raise ResattnError(
            f"the {nodes} machines did not meet at {head}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "start the command on the first machine first, and on all within a minute; or name another port: HOST:PORT",
        ) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            sys.exit(failure.exitcode)
        # It could not say so itself, and the others only noticed that it was gone.
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-failure.exitcode, f"signal {-failure.exitcode}")
        print(f"process {rank} was ended by {name}; go on with --resume", file=sys.stderr)
        sys.exit(128 - failure.exitcode)
    sys.exit(0)


def _meeting(nodes: int, head: str | None) -> list[str]:
    """What torchrun is told of the place where the processes of all machines find each other."""
    if nodes == 1:
        return ["--standalone"]
    mend = "name the first of them on each: --head HOST or HOST:PORT"
    if head is None:
        raise ResattnError(f"{nodes} machines need a place to meet", mend)
    host, _, port = head.partition(":")
    if port and not (port.isdigit() and 0 < int(port) < 2**16):
        raise ResattnError(f"{port} is no port", mend)
    try:
        here, address = _address_towards(host), socket.gethostbyname(host)
    except OSError as error:
        raise ResattnError(f"{host} cannot be reached: {error.strerror or error}", mend) from error
    if address.startswith("127.") and host != "localhost" and not host.startswith("127."):
        # As Debian's /etc/hosts has it for a machine's own name: the others would look for this one in vain.
        raise ResattnError(
            f"{host} is {address} here, an address that no other machine reaches",
            "give the first machine's address: --head 10.0.0.1",
        )
    is_head = address == here
    # All three would otherwise rest on what the machine's own name resolves to, often an address only it can reach.
    interface = _interface_of(here)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    endpoint, run_id = f"{host}:{port or PORT}", os.environ.get("SLURM_JOB_ID", "resattn")
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", run_id]
    return [*meeting, "--local-addr", here, "--rdzv-conf", f"is_host={int(is_head)}"]


def _address_towards(host: str) -> str:
    """This machine's own address on the way to `host`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, PORT))
        return str(probe.getsockname()[0])


def _interface_of(address: str) -> str | None:
    """The name of the network interface that has an address; None where the system cannot tell."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
