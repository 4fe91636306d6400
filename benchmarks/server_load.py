"""How much of the bare network's throughput is left behind HTTP, and how long does a client wait?

Clients on this machine, each sending one image after the other on a connection of its own, against `resattn serve` in
a process of its own; and in turns with it the same network on the same images without a server: batches of pixels that
are decoded already, and batches that have to be decoded first. Every measurement is a fresh process. An answer other
than 200, or with another likeliest class than the image has alone, ends the benchmark.

CPU is milliseconds of CPU time an image, of the server or of the bare network (clients not counted): beside busy
neighbours it says more than throughput does. Clients, server and network share the cores. Run it on idle ones:

    python benchmarks/server_load.py
    python benchmarks/server_load.py model.onnx --clients 32 --seconds 60
    python benchmarks/server_load.py --side 64 --images 4

The last line sends four images a request, of the size the network sees.
"""

import measuring

measuring.like_the_command()

import asyncio
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

LIKELIEST = re.compile(rb'"labels":\["([^"]+)"')
BOUNDARY = "resattn-server-load"
BARE, DECODING, SERVER = "network alone", "network, decoding first", "server"


def images(side: int) -> list[bytes]:
    """The drawings that ship with the page, as JPEG files of `side` x `side` pixels."""
    from resattn.serving.sample_drawings import draw_samples

    files = []
    for image in draw_samples().values():
        file = io.BytesIO()
        image.resize((side, side)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def measure_cell(cell: dict[str, Any]) -> dict[str, float]:
    """One measurement, in this process."""
    files = images(cell["side"])
    if cell["way"] == SERVER:
        with serving(cell["source"], cell["batch"]) as (process, port):
            return asyncio.run(load(port, process, files, cell))
    files = (files * cell["batch"])[: cell["batch"]]
    return without_a_server(cell["source"], files, cell["seconds"], decoding=cell["way"] == DECODING)


def without_a_server(
    source: str, files: Sequence[bytes], seconds: float, *, decoding: bool
) -> dict[str, float]:
    """Batches of these images through the network one after the other, for some seconds."""
    import numpy as np

    from resattn.hardware import usable_cores
    from resattn.serving.runtime import open_runtime
    from resattn.serving.uploads import decode

    runtime = open_runtime(source)
    size = runtime.input_size[-1]
    with ThreadPoolExecutor(usable_cores()) as pool:

        def pixels() -> "np.ndarray[Any, np.dtype[np.uint8]]":
            return np.stack(list(pool.map(lambda file: decode(file, size, pixels=10**6), files)))

        ready = pixels()
        runtime(ready)
        times = []
        cpu, begun = time.process_time(), time.perf_counter()
        while time.perf_counter() - begun < seconds:
            started = time.perf_counter()
            runtime(pixels() if decoding else ready)
            times.append(time.perf_counter() - started)
        elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
    return figures(len(times) * len(files), elapsed, used, times)


@contextmanager
def serving(source: str, batch: int) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """`resattn serve` on a free port; ends the benchmark where it does not begin, or does not end well."""
    command = [sys.executable, "-m", "resattn_launcher", "serve", source, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--batch-size", str(batch)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise SystemExit(f"the server did not begin: {line}")
        yield process, int(found[1])
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


async def load(
    port: int, process: "subprocess.Popen[str]", files: Sequence[bytes], cell: Mapping[str, Any]
) -> dict[str, float]:
    """What clients find, after each has had one answer that is not counted."""
    clients, images_a_request = cell["clients"], cell["images"]
    alone = []
    connection = await asyncio.open_connection("127.0.0.1", port)
    for file in files:
        alone.append(json.loads(await ask(*connection, as_request([file])))["labels"][0])
    connection[1].close()
    kinds = [[(first + i) % len(files) for i in range(images_a_request)] for first in range(len(files))]
    requests = [as_request([files[i] for i in kind]) for kind in kinds]
    expected = [[alone[i].encode() for i in kind] for kind in kinds]
    times: list[float] = []
    ready, go = asyncio.Barrier(clients + 1), asyncio.Event()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(reader, writer, requests[number % len(requests)])
        await ready.wait()
        await go.wait()
        while time.perf_counter() < until:
            number += 1
            kind = number % len(requests)
            started = time.perf_counter()
            answer = await ask(reader, writer, requests[kind])
            times.append(time.perf_counter() - started)
            # As text, because parsing would cost the server's cores time; the likeliest class comes first.
            if LIKELIEST.findall(answer) != expected[kind]:
                raise SystemExit(f"another answer than {expected[kind]}: {answer[:200]!r}")
        writer.close()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
        await ready.wait()
        cpu, begun = cpu_seconds(process.pid), time.perf_counter()
        until = begun + cell["seconds"]
        go.set()
    elapsed, used = time.perf_counter() - begun, cpu_seconds(process.pid) - cpu
    return figures(len(times) * images_a_request, elapsed, used, times)


def as_request(files: Sequence[bytes]) -> bytes:
    """The request that asks what is in an image file, or in several."""
    if len(files) == 1:
        path, kind, body = "predict", "image/jpeg", files[0]
    else:
        path, kind = "predict-batch", f"multipart/form-data; boundary={BOUNDARY}"
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
        body = b"".join(part.encode() + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The body of the answer; any status but 200 ends the benchmark."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    if not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"the server said {head.splitlines()[0]!r}: {body!r}")
    return body


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(count: int, elapsed: float, cpu: float, times: Sequence[float]) -> dict[str, float]:
    """Images a second, CPU milliseconds an image, and the median and 99th percentile of milliseconds waited."""
    ordered = sorted(times)
    return {
        "images": count,
        "images_per_second": count / elapsed,
        "cpu_ms": 1000 * cpu / count,
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
    }


def main(argv: list[str] | None = None) -> None:
    """Print throughput and waiting times of each way."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("source", nargs="?", default="resattn_small", help="what `resattn serve` takes")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=1, help="of a request")
    parser.add_argument("--side", type=int, default=256, help="of the images that are sent, in pixels")
    parser.add_argument("--seconds", type=float, help="of each turn; 60, or 3 with --short")
    options = measuring.parse(parser, argv, "server_load")
    found = measuring.machine()
    options.seconds = options.seconds or (3.0 if options.short else 60.0)
    cell = {
        name: getattr(options, name) for name in ("source", "clients", "batch", "images", "side", "seconds")
    }
    contestants = {
        way: partial(measuring.in_fresh_process, __file__, cell | {"way": way})
        for way in (BARE, DECODING, SERVER)
    }
    turns = measuring.alternate(contestants, 1 if options.short else 3)
    results = {way: summary(turns[way], turns[BARE]) for way in turns}
    columns = ["way", "images/s", "of the network alone", "CPU ms an image", "p50 ms", "p99 ms"]
    keys = ("images_per_second", "share_of_the_network", "cpu_ms", "p50_ms", "p99_ms")
    rows = [[way, *(measuring.Spread(**one[key]) for key in keys)] for way, one in results.items()]
    title = (
        f"{options.source}, {options.clients} clients, images a request: {options.images}, batches of"
        f" {options.batch}, JPEGs of {options.side} px, {options.seconds:g} s a turn"
    )
    waits = "p50 and p99: of a batch without a server, of a request with one"
    measuring.finish(options, __doc__, found, results, f"{title}\n{measuring.table(columns, rows)}\n{waits}")


def summary(turns: Sequence[dict[str, float]], bare: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Each figure over the turns, and throughput as a share of the bare network's."""
    result: dict[str, Any] = {
        name: measuring.Spread.of([turn[name] for turn in turns]).to_json() for name in turns[0]
    }
    speeds = [[turn["images_per_second"] for turn in one] for one in (turns, bare)]
    result["share_of_the_network"] = measuring.ratios(*speeds).to_json()
    return result


if __name__ == "__main__":
    measuring.start(main, measure_cell)
