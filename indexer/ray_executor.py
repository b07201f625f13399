"""Decoding and embedding on a Ray cluster; this machine lists the sources and commits the rows."""

from __future__ import annotations

import logging
import pickle
import socket
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from clara_search.cpu import core_count
from clara_search.errors import ClaraError, ConfigError, EncoderMismatch, MissingDependency, first_line
from clara_search.files.limits import set_limits
from clara_search.files.network.access import restore
from clara_search.models.base import Encoder
from indexer.decode.prefetch import DecodeConfig, prefetch_items, read_jobs
from indexer.decode.read import Loaded, LoadedItem
from indexer.embed.batches import EmbeddedItem, embed_items
from indexer.ledger.snapshot import LedgerSnapshot
from indexer.runtime.ray_private import check_private, private_cluster
from indexer.runtime.signals import restored_handlers
from indexer.sources.item import Item, in_memory_bytes

if TYPE_CHECKING:
    import pyarrow as pa

_DATASET_ITEMS = 100_000
_DATASET_BYTES = 256 * 2**20
"""Size of a Ray dataset: its items have to fit into memory, and actors are started for each dataset."""

_DECODE_BATCH = 16
_EMBED_BATCH = 64
_MAX_CALLS = 64
"""Tasks after which a decoding process is replaced."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ray:
    """A Ray cluster that decodes and embeds.

    A cluster runs the code of anybody who reaches its ports: one with an `address` should be in a network of its own,
    with Ray's token authentication. Sources and model must be within reach of every machine under the same names.

    Attributes:
        workers: number of embedding actors, a GPU each if there are any; 0: one a GPU, or one for two cores.
        address: HOST:PORT of a running cluster, or "auto" for the one of this machine; None: start one for the run, on
            loopback and with a token.
    """

    workers: int = 0
    address: str | None = None

    def load_items(
        self, items: Iterable[Item], known: LedgerSnapshot, config: DecodeConfig, encoder: Encoder
    ) -> Generator[Loaded, None, None]:
        """Yield `items` as `prefetch_items` does, in any order, fresh ones with their vectors.

        Args:
            items: items of the sources.
            known: snapshot of the ledger.
            config: how recordings are decoded.
            encoder: the encoder; it is sent to the workers.

        Yields:
            The items, loaded, in any order.

        Raises:
            MissingDependency: Ray is not installed.
            ConfigError: the cluster cannot be reached or started, or is too small.
            ClaraError: the cluster broke off.
        """
        cluster = _Cluster(self, known, config, encoder)
        try:
            groups, count, size = list[list[Item]](), 0, 0
            for settled, _, pending in read_jobs(items, known):
                yield from (item for item in settled if item.state != "fresh")
                if group := [item.item for item in settled if item.state == "fresh"] + pending:
                    groups.append(group)
                    count, size = count + len(group), size + sum(map(in_memory_bytes, group))
                if count >= _DATASET_ITEMS or size >= _DATASET_BYTES:
                    yield from cluster.embed(groups)
                    groups, count, size = [], 0, 0
            if groups:
                yield from cluster.embed(groups)
        finally:
            cluster.close()


class _Cluster:
    """The connection to a cluster, whose workers got encoder and ledger snapshot."""

    def __init__(self, engine: Ray, known: LedgerSnapshot, config: DecodeConfig, encoder: Encoder):
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingDependency("Ray is not installed: pip install 'clara-search[ray]'") from error
        self._ray: Any = ray
        self._is_own = not ray.is_initialized()
        self._exit_stack = ExitStack()
        if self._is_own:
            self._start(engine)
        try:
            resources = self._ray.cluster_resources()
            self._gpus = 1 if resources.get("GPU") else 0
            self._workers = engine.workers or max(1, int(resources.get("GPU", 0)) or int(resources.get("CPU", 1)) // 2)
            if self._gpus and self._workers > resources["GPU"]:
                raise ConfigError(f"{self._workers} workers need a GPU each, and the cluster has {resources['GPU']:g}")
            if not self._gpus and self._workers >= resources.get("CPU", 0):
                raise ConfigError(
                    f"{self._workers} workers need a core each and one more to decode; the cluster has "
                    f"{resources.get('CPU', 0):g}"
                )
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            progress = ray.data.DataContext.get_current()
            progress.enable_progress_bars = False
            progress.print_on_execution_start = False
            self._decode = partial(_decode, known=ray.put(known), config=replace(config, workers=1))
            self._encoder = ray.put(encoder)
            self._fingerprint = encoder.fingerprint
        except BaseException:
            self.close()
            raise

    def embed(self, groups: list[list[Item]]) -> Iterator[Loaded]:
        """Yield the items of `groups`, each of one file, as the cluster finishes them."""
        data = self._ray.data
        fair_share = len(groups) // (2 * self._workers)  # also a few groups are spread
        rows = data.from_items(
            [{"items": pickle.dumps(group)} for group in groups],
            override_num_blocks=min(len(groups), max(2 * self._workers, min(len(groups) // _DECODE_BATCH, 1000))),
        )
        # A decoding process is replaced now and then: it may hold hanging decoders. This also keeps Ray from fusing the
        # two stages, which would let actors decode.
        decoded = rows.map_batches(
            self._decode,
            batch_size=max(1, min(_DECODE_BATCH, fair_share)),
            batch_format="pyarrow",
            num_cpus=1,
            max_calls=_MAX_CALLS,
        )
        embedded = decoded.map_batches(
            _Embed,
            fn_constructor_args=(self._encoder, self._fingerprint),
            batch_size=max(1, min(_EMBED_BATCH, fair_share)),
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=self._workers),
            **({"num_gpus": 1} if self._gpus else {"num_cpus": 1}),
        )
        try:
            for batch in embedded.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from _unpack(batch)
        except ClaraError:
            raise
        except Exception as error:  # Ray wraps the error of a worker, sometimes more than once
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(worker_error := getattr(cause, "cause", cause), ClaraError):
                    raise worker_error from error
                cause = cause.__cause__
            raise ClaraError(
                f"the Ray cluster broke off ({first_line(error)}); the same command continues where it ended"
            ) from error

    def close(self) -> None:
        """Shut down a cluster that was started for the run."""
        if self._is_own:
            self._ray.shutdown()
        self._exit_stack.close()

    def _start(self, engine: Ray) -> None:
        if engine.address:
            _check_reachable(engine.address)
            options: dict[str, Any] = {"address": engine.address}
        else:  # embedding workers hold a core each; decoding needs one more
            cores = max(core_count(), (engine.workers or 1) + 1)
            options = {"address": "local", "num_cpus": cores, "include_dashboard": False}
            options |= self._exit_stack.enter_context(private_cluster())
            _log.info("starting a Ray cluster of %d cores", cores)
        try:
            # Ray sets a handler of SIGTERM, which aborts.
            with restored_handlers(), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB's, about forks without exec
                self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            if not engine.address:
                check_private(self._ray.util.get_node_ip_address())
        except ClaraError:
            self.close()
            raise
        except Exception as error:
            self.close()
            host = f"at {engine.address}" if engine.address else "on this machine"
            raise ConfigError(f"no Ray cluster {host} ({first_line(error)})") from error


def _check_reachable(address: str) -> None:
    """Raise ConfigError at once if nobody answers at HOST:PORT: Ray itself retries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address} ({first_line(error)})") from error


class _Embed:
    """An actor with its own encoder."""

    def __init__(self, encoder_ref: Any, fingerprint: str):
        import ray

        encoder: Encoder = ray.get(encoder_ref)
        if encoder.fingerprint != fingerprint:
            raise EncoderMismatch(
                f"a worker has another {encoder.name} ({encoder.fingerprint[:8]}...) than {fingerprint[:8]}..."
            )
        self._encoder = encoder

    def __call__(self, batch: pa.Table) -> pa.Table:
        embedded = embed_items(_unpack(batch), self._encoder)
        return _pack([_to_loaded(item)] for item in embedded)


def _decode(batch: pa.Table, known: Any, config: DecodeConfig) -> Iterator[pa.Table]:
    import ray

    restore(config.access)
    set_limits(config.limits)
    items = [item for group in batch["items"].to_pylist() for item in pickle.loads(group)]
    # Rows go their own ways: the windows of a recording travel with it.
    windows: dict[str, list[Loaded]] = {}
    for loaded in prefetch_items(items, ray.get(known), config):
        group = windows.setdefault(loaded.item.key, [])
        group.append(loaded)
        if isinstance(loaded, LoadedItem):
            yield _pack([windows.pop(loaded.item.key)])


def _to_loaded(embedded: EmbeddedItem) -> LoadedItem:
    """Return an embedded item as a loaded one: with its vectors, or the reason why it failed."""
    loaded = embedded.loaded
    if embedded.reason is not None:
        return replace(loaded, state="failed" if loaded.state == "fresh" else loaded.state, reason=embedded.reason)
    if loaded.state != "fresh":
        return loaded
    return replace(loaded, windows=tuple(embedded.windows), vectors=embedded.vectors)


def _pack(groups: Iterable[Sequence[Loaded]]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {"loaded": pa.array([pickle.dumps(list(group), protocol=5) for group in groups], pa.large_binary())}
    )


def _unpack(table: pa.Table) -> Iterator[Loaded]:
    for value in table["loaded"]:
        yield from pickle.loads(value.as_buffer())
