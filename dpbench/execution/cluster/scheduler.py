"""Where a scheduler is, and a client of it, or one line that says why not."""

import json
import logging
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench.errors import ClusterError
from dpbench.execution.cluster.messages import first_line

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

CONNECT_SECONDS = 10.0
RECONNECT_SECONDS = 30.0  # for a scheduler that starts again
WRITING_SECONDS = 2.0
_LOGGERS = ("asyncio", "dask", "distributed", "tornado")  # and those below them
_ADDRESS = re.compile(r"(?:(tcp|tls)://)?(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a scheduler is: one of the first two, and what opens it."""

    scheduler: str | None = None
    scheduler_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __str__(self) -> str:
        return self.scheduler or str(self.scheduler_file)


@contextmanager
def connected(address: Address) -> Iterator["Client"]:
    """A client of the scheduler; what it had out is given up when the context ends.

    Raises:
        ClusterError: dask.distributed is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
        from distributed.utils import LoopRunner
    except ImportError as error:
        raise ClusterError(
            "Expected dask.distributed for --scheduler; pip install 'dpbench-sgd[dask]'."
        ) from error
    security = _security(address)
    scheduler = _scheduler(address, security)
    with _dask_silent():
        loop = LoopRunner()
        loop.start()
        try:
            _probe(address, scheduler, security, loop.loop)
            client = Client(
                scheduler,
                security=security,
                timeout=RECONNECT_SECONDS,
                set_as_default=False,
                name="dpbench",
                loop=loop.loop,
            )
            try:
                yield client
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    client.close(timeout=5)
        finally:
            loop.stop()


@contextmanager
def _dask_silent() -> Iterator[None]:
    """Silences the loggers of dask and of what it runs on: they repeat for pages what we say.

    Those of dpbench are heard: a damaged file of the store is worth its line.
    """
    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LOGGERS]
    loggers = [logging.getLogger(name) for name in {*known, *_LOGGERS}]
    before = [(each, each.disabled, each.level) for each in loggers]
    for each in loggers:
        each.disabled = True
        each.setLevel(logging.CRITICAL + 1)  # for those below it that there are not yet
    try:
        yield
    finally:
        for each, disabled, level in before:
            each.disabled = disabled
            each.setLevel(level)


def _security(address: Address) -> "Security":
    """The files that open the scheduler, as dask takes them."""
    from distributed.security import Security

    tls = {
        "tls_ca_file": address.tls_ca_file,
        "tls_client_cert": address.tls_cert,
        "tls_client_key": address.tls_key,
    }
    given = {name: str(path) for name, path in tls.items() if path is not None}
    for path in given.values():
        if not Path(path).is_file():
            raise ClusterError(f"Expected {path!r} to be a file in PEM format.")
    return Security(require_encryption=True, **given) if given else Security()


def _written(file: Path) -> str:
    """The address in the file, which dask creates empty and then writes."""
    deadline = time.monotonic() + WRITING_SECONDS
    while True:
        try:
            text = file.read_bytes()
            if not text and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            return str(json.loads(text)["address"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ClusterError(
                f"Expected scheduler_file={str(file)!r} to be a file, as dask writes it: "
                f"{first_line(error)}"
            ) from error


def _scheduler(address: Address, security: "Security") -> str:
    """Where the scheduler listens, as far as can be told without asking it."""
    file = address.scheduler_file
    named = address.scheduler or ""
    if file is not None:
        named = _written(file)
    match = _ADDRESS.fullmatch(named)
    if match is None or not 0 < int(match[3]) < 1 << 16:
        raise ClusterError(
            f"Expected a scheduler at tcp://HOST:PORT or tls://HOST:PORT, not at {named!r}."
        )
    try:
        opened = security.get_connection_args("client").get("ssl_context") is not None
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(f"Expected a certificate and its key: {first_line(error)}") from error
    if match[1] == "tls" and not opened:
        raise ClusterError(f"Expected --tls-ca-file, --tls-cert and --tls-key for {named}.")
    if match[1] != "tls" and security.require_encryption:
        raise ClusterError(f"Expected tls://HOST:PORT with the --tls flags, not {named}.")
    return named


def _probe(address: Address, scheduler: str, security: "Security", loop: Any) -> None:
    """Raises ClusterError where no scheduler of dask answers soon."""
    from distributed.comm import connect
    from distributed.utils import sync

    async def kind() -> object:
        comm = await connect(
            scheduler, timeout=CONNECT_SECONDS, **security.get_connection_args("client")
        )
        try:
            await comm.write({"op": "identity", "n_workers": 0, "reply": True})
            return (await comm.read()).get("type")
        finally:
            comm.abort()

    try:
        found = sync(loop, kind, callback_timeout=CONNECT_SECONDS + 1)
    except Exception as error:  # whatever it is that listens there
        raise ClusterError(
            f"Expected a scheduler at {address}, and none answers: {first_line(error)}"
        ) from error
    if found != "Scheduler":
        raise ClusterError(f"Expected a scheduler at {address}, and there is a {found}.")
