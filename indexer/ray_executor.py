"""Decoding and embedding on a Ray cluster; listing and committing stay where the command runs."""

from __future__ import annotations

import logging
import pickle
import socket
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from clara_search.cpu import core_count
from clara_search.errors import ClaraError, ConfigError, EncoderMismatch, MissingDependency, first_line
from clara_search.models.base import Encoder
from clara_search.store.table import TableInfo
from indexer.decode.prefetch import DecodeConfig, prefetch_items, read_jobs
from indexer.decode.read import LoadedItem
from indexer.embed.batches import EmbeddedItem, embed_items
from indexer.ledger.ledger import LedgerSnapshot
from indexer.runtime.ray_private import check_private, private_cluster
from indexer.sources.item import InMemoryBytes, InMemoryWaveform, Item

if TYPE_CHECKING:
    import pyarrow as pa

_PORTION_ITEMS = 100_000
_PORTION_BYTES = 256 * 2**20
"""So much is handed to the cluster at once: what is listed has to fit into memory, and actors start for each."""

_DECODED_TOGETHER = 16
_EMBEDDED_TOGETHER = 64
_CALLS = 64
"""So many tasks a process decodes."""


@dataclass(frozen=True)
class Ray:
    """A Ray cluster that embeds: `workers` actors (0: one a GPU, or one for two cores), a GPU each where there are any.

    `address` is a cluster's ("auto": the one of this machine); without one, a cluster is started for the run, on
    loopback and with a token. A cluster runs the code of whoever reaches its ports: one with an `address` should be in
    a network of its own, with Ray's token authentication. Sources and model have to be within reach of every machine
    under the same names; rows are committed by the machine that runs this, as ever.
    """

    workers: int = 0
    address: str | None = None

    def load(
        self, items: Iterable[Item], known: LedgerSnapshot, how: DecodeConfig, encoder: Encoder, info: TableInfo
    ) -> Generator[LoadedItem, None, None]:
        """Yield what `prefetch_items` yields, not in order, embedded already where it is fresh.

        Raises ClaraError where Ray is missing, where the cluster is too small, and where it breaks off.
        """
        cluster = _Cluster(self, known, how, encoder, info)
        try:
            groups, count, size = list[list[Item]](), 0, 0
            for settled, _, wanted in read_jobs(items, known):
                yield from (one for one in settled if one.state != "fresh")
                if group := [one.item for one in settled if one.state == "fresh"] + wanted:
                    groups.append(group)
                    count, size = count + len(group), size + sum(map(_held_bytes, group))
                if count >= _PORTION_ITEMS or size >= _PORTION_BYTES:
                    yield from cluster.embedded(groups)
                    groups, count, size = [], 0, 0
            if groups:
                yield from cluster.embedded(groups)
        finally:
            cluster.close()


class _Cluster:
    """The connection to a cluster, and what its workers need to know, sent once."""

    def __init__(self, engine: Ray, known: LedgerSnapshot, how: DecodeConfig, encoder: Encoder, info: TableInfo):
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingDependency("--engine ray needs Ray: pip install 'clara-search[ray]'") from error
        self._ray: Any = ray
        self._is_ours = not ray.is_initialized()
        self._leaving = ExitStack()
        if self._is_ours:
            self._start(engine)
        try:
            has = self._ray.cluster_resources()
            self._gpus = 1 if has.get("GPU") else 0
            self._workers = engine.workers or max(1, int(has.get("GPU", 0)) or int(has.get("CPU", 1)) // 2)
            if self._gpus and self._workers > has["GPU"]:
                raise ConfigError(f"{self._workers} workers need a GPU each, and the cluster has {has['GPU']:g}")
            if not self._gpus and self._workers >= has.get("CPU", 0):
                raise ConfigError(
                    f"{self._workers} workers need a core each and one more to decode; the cluster has "
                    f"{has.get('CPU', 0):g}"
                )
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            progress = ray.data.DataContext.get_current()
            progress.enable_progress_bars = False
            progress.print_on_execution_start = False
            self._decode = partial(_decode, known=ray.put(known), how=replace(how, threads=1))
            self._encoder, self._info = ray.put(encoder), info
            self._fingerprint = encoder.fingerprint
        except BaseException:
            self.close()
            raise

    def embedded(self, groups: list[list[Item]]) -> Iterator[LoadedItem]:
        """Yield the items of `groups`, each of one file, as they come out of the cluster."""
        data = self._ray.data
        each = len(groups) // (2 * self._workers)  # few of them are spread all the same
        rows = data.from_items(
            [{"items": pickle.dumps(group)} for group in groups],
            override_num_blocks=min(len(groups), max(2 * self._workers, min(len(groups) // _DECODED_TOGETHER, 1000))),
        )
        # A process that decodes is renewed now and then: it may hold what hung. This also keeps Ray from making one
        # stage of both, where actors would have to decode.
        decoded = rows.map_batches(
            self._decode,
            batch_size=max(1, min(_DECODED_TOGETHER, each)),
            batch_format="pyarrow",
            num_cpus=1,
            max_calls=_CALLS,
        )
        embedded = decoded.map_batches(
            _Embed,
            fn_constructor_args=(self._encoder, self._fingerprint, self._info),
            batch_size=max(1, min(_EMBEDDED_TOGETHER, each)),
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=self._workers),
            **({"num_gpus": 1} if self._gpus else {"num_cpus": 1}),
        )
        try:
            for batch in embedded.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from _unpacked(batch)
        except ClaraError:
            raise
        except Exception as error:  # Ray wraps what a worker raised, now and then more than once
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(found := getattr(cause, "cause", cause), ClaraError):
                    raise found from error
                cause = cause.__cause__
            raise ClaraError(
                f"the Ray cluster broke off ({first_line(error)}); the same command goes on where it ended"
            ) from error

    def close(self) -> None:
        """Let a cluster that was started for the run end."""
        if self._is_ours:
            self._ray.shutdown()
        self._leaving.close()

    def _start(self, engine: Ray) -> None:
        if engine.address:
            _check_reachable(engine.address)
            options: dict[str, Any] = {"address": engine.address}
        else:  # workers that encode hold a core each; there has to be one more, to decode
            cores = max(core_count(), (engine.workers or 1) + 1)
            options = {"address": "local", "num_cpus": cores, "include_dashboard": False}
            options |= self._leaving.enter_context(private_cluster())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB's, of forks that go on without exec
                self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            if not engine.address:
                check_private(self._ray.util.get_node_ip_address())
        except ClaraError:
            self.close()
            raise
        except Exception as error:
            self.close()
            where = f"at {engine.address}" if engine.address else "on this machine"
            raise ConfigError(f"no Ray cluster {where} ({first_line(error)})") from error


def _check_reachable(address: str) -> None:
    """Raise ClaraError at once where nobody answers at HOST:PORT: Ray itself asks for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address} ({first_line(error)})") from error


class _Embed:
    """An actor with an encoder of its own."""

    def __init__(self, sent: Any, fingerprint: str, info: TableInfo):
        import ray

        encoder: Encoder = ray.get(sent)
        if encoder.fingerprint != fingerprint:
            raise EncoderMismatch(
                f"a worker has another {encoder.name} ({encoder.fingerprint[:8]}...) than {fingerprint[:8]}..."
            )
        self._encoder = encoder
        self._info = info

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _packed(map(_told, embed_items(_unpacked(batch), self._encoder, self._info)))


def _decode(batch: pa.Table, known: Any, how: DecodeConfig) -> Iterator[pa.Table]:
    import ray

    listed = [item for group in batch["items"].to_pylist() for item in pickle.loads(group)]
    for one in prefetch_items(listed, ray.get(known), how):
        yield _packed([one])


def _told(embedded: EmbeddedItem) -> LoadedItem:
    """Return an item as it came out of `embed_items`, with its vectors, or with the reason why it has none."""
    loaded = embedded.loaded
    if embedded.reason is not None:
        return replace(loaded, state="failed" if loaded.state == "fresh" else loaded.state, reason=embedded.reason)
    if loaded.state != "fresh":
        return loaded
    return replace(loaded, windows=tuple(embedded.windows), vectors=embedded.vectors)


def _packed(loaded: Iterable[LoadedItem]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"loaded": pa.array([pickle.dumps(one, protocol=5) for one in loaded], pa.large_binary())})


def _unpacked(table: pa.Table) -> Iterator[LoadedItem]:
    for packed in table["loaded"]:
        yield pickle.loads(packed.as_buffer())


def _held_bytes(item: Item) -> int:
    return item.content.size if isinstance(item.content, (InMemoryBytes, InMemoryWaveform)) else 0
