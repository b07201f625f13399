"""A Ray cluster of two workers gives the rows, vectors and ledger of the local engine, from files and from a store."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import AudioError, ClaraError
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database
from indexer.decode.prefetch import DecodeConfig
from indexer.ledger.failures import stored_ledger
from indexer.pipeline import index
from indexer.ray_executor import Ray, _Cluster
from indexer.runtime.ray_private import check_private
from tests.helpers import ToneEncoder, tone, write_tone
from tests.indexer.decode.test_processes import NOTHING

ray = pytest.importorskip("ray", reason="needs ray[data]")


class Particular(ToneEncoder):
    """Refuses what is as short as a click."""

    def encode_audio(self, waveforms: Any) -> Any:
        if any(len(waveform) < 100 for waveform in waveforms):
            raise AudioError("too short")
        return super().encode_audio(waveforms)


@pytest.fixture
def cluster(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three cores of this machine, two for workers that embed. Its processes see the store that `bucket` is."""
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 2**20,
    )
    try:
        yield bucket
    finally:
        ray.shutdown()


def stored(database: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return all rows and all entries of the ledger, but for when they were written."""
    opened = Database(database)
    ledger = stored_ledger(opened, "corpus")
    assert ledger is not None
    entries = ledger.scan([name for name in ledger.schema.names if name != "at"]).sort_by("key").to_pylist()
    return opened.table().scan(opened.table().schema.names).sort_by("id").to_pylist(), entries


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::UserWarning:ray.*")
def test_a_cluster_gives_what_the_local_engine_gives(
    cluster: Any, recordings: Path, tmp_path: Path, encoder: ToneEncoder
) -> None:
    for number in range(30):
        write_tone(recordings / f"{number}.wav", 200 + 50 * number, duration_s=0.5 + number)
    write_tone(recordings / "click.wav", 500, duration_s=0.005)
    (recordings / "broken.wav").write_bytes(b"RIFF and nothing more")
    (recordings / "copy.wav").write_bytes((recordings / "3.wav").read_bytes())
    words = tmp_path / "words.txt"
    words.write_text("a low tone\na high tone\n", encoding="utf-8")
    manifest = tmp_path / "rows.csv"
    manifest.write_text(
        "path,text,start_s,end_s,speaker\n"
        f"{recordings / '7.wav'},a part,1,3,Bea\n{recordings / '7.wav'},another,4,,Ann\n"
        f"{recordings / '8.wav'},no,99,,Ann\n",
        encoding="utf-8",
    )
    for path in recordings.rglob("high.*"):
        cluster.put(str(path), "sounds/in/high.ogg")
    for path in recordings.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    sources = [str(recordings), str(words), str(manifest), "s3://sounds/in"]
    engine = Ray(workers=2)

    remote = index(sources, tmp_path / "remote", Particular(), engine=engine)
    local = index(sources, tmp_path / "local", Particular())
    assert (remote.indexed, remote.failed, remote.rows, remote.audio_s, remote.reused) == (
        *(local.indexed, local.failed, local.rows, local.audio_s, local.reused),
    )
    assert (remote.indexed, remote.failed) == (39, 3)
    rows, entries = stored(tmp_path / "remote")
    expected_rows, expected_entries = stored(tmp_path / "local")
    assert entries == expected_entries
    assert [{**row, "vector": None} for row in rows] == [{**row, "vector": None} for row in expected_rows]
    np.testing.assert_allclose(
        [row["vector"] for row in rows], [row["vector"] for row in expected_rows], rtol=0, atol=1e-6
    )

    # What is done is not done again, and what was renamed is recognised, by either engine.
    (recordings / "3.wav").rename(recordings / "renamed.wav")
    write_tone(recordings / "4.wav", 4000, duration_s=2.0)
    again = index(sources, tmp_path / "remote", Particular(), engine=engine, prune=True)
    assert (again.indexed, again.reused, again.unchanged) == (2, 1, 37)
    beside = index(sources, tmp_path / "local", Particular(), prune=True)
    assert beside == replace(again, seconds=beside.seconds, stages=beside.stages)
    assert [row["id"] for row in stored(tmp_path / "remote")[0]] == [row["id"] for row in stored(tmp_path / "local")[0]]

    with pytest.raises(ClaraError, match="3 workers need a core each and one more to decode; the cluster has 3"):
        index([str(recordings)], tmp_path / "few", encoder, engine=Ray(workers=3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::UserWarning:ray.*")
def test_a_cluster_that_is_started_listens_to_this_machine_and_this_user_alone(
    database: Database, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil", reason="needs psutil")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    index([recordings], database, ToneEncoder())
    for number in range(2):  # a second one in the same process has to know the token of the first
        cluster = _Cluster(Ray(workers=1), NOTHING, DecodeConfig(16_000), ToneEncoder())
        try:
            assert ray.get(ray.remote(lambda: 7).remote()) == 7
            listening = [
                ipaddress.ip_address(one.laddr.ip)
                for process in psutil.Process().children(recursive=True)
                for one in process.net_connections("inet")
                if one.status == psutil.CONN_LISTEN
            ]
            assert len(listening) >= 3
            assert all((getattr(one, "ipv4_mapped", None) or one).is_loopback for one in listening), listening
            folder = Path(ray._private.worker._global_node.get_session_dir_path()).parent.parent
            assert folder.stat().st_mode & 0o777 == 0o700
            if number == 1:
                stranger = f"import ray; ray.init(address={ray.get_runtime_context().gcs_address!r})"
                strange = {
                    "RAY_AUTH_MODE": "token",
                    "RAY_AUTH_TOKEN": "0" * 64,
                    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                }
                command = [sys.executable, "-c", stranger]
                refused = subprocess.run(command, env={**environment, **strange}, capture_output=True, text=True)
                assert refused.returncode != 0
                assert "InvalidAuthToken" in refused.stderr
        finally:
            cluster.close()
        assert not folder.exists()
        assert dict(os.environ) == environment


SLOW_RUN = """
import os, sys, time
import clara_search.models.registry
from tests.helpers import ToneEncoder
class Slow(ToneEncoder):
    def encode_audio(self, waveforms):
        with open(f"{database}.workers", "a") as file:
            file.write(f"{os.getpid()} ")
        time.sleep(0.5)
        return super().encode_audio(waveforms)
_, recordings, database = sys.argv
clara_search.models.registry.load_encoder = lambda *a, **k: Slow()
from clara_search.commands.main import main
main(["index", recordings, "--db", database, "--engine", "ray", "--workers", "1", "--json"])
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_a_signal_ends_the_run_and_stdout_holds_json_alone(tmp_path: Path) -> None:
    for number in range(100):
        write_tone(tmp_path / "many" / f"{number:03}.wav", 100 + 50 * number, duration_s=0.1)
    command = [sys.executable, "-c", SLOW_RUN, str(tmp_path / "many"), str(tmp_path / "db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        (first,) = wait_for_workers(process, tmp_path / "db.workers", 1)
        os.kill(first, signal.SIGKILL)
        wait_for_workers(process, tmp_path / "db.workers", 2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert json.loads(out)["stopped"]
    assert "(raylet)" in err
    assert "Traceback" not in err
    rows = Database(tmp_path / "db").table().count()
    assert 0 < rows < 100
    assert index([tmp_path / "many"], tmp_path / "db", ToneEncoder()).unchanged == rows


def wait_for_workers(process: subprocess.Popen[str], pids: Path, count: int) -> set[int]:
    while not pids.exists() or len(found := set(map(int, pids.read_text().split()))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return found


def test_a_ray_that_listens_where_others_reach_it_is_refused() -> None:
    check_private("127.0.0.1")
    for address in ("192.0.2.2", "0.0.0.0", "::"):
        with pytest.raises(ClaraError, match="where others reach it"):
            check_private(address)


@pytest.mark.slow
def test_an_encoder_is_loaded_again_where_it_is_unpickled() -> None:
    encoder = load_encoder()
    packed = pickle.dumps(encoder)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert (again.fingerprint, again.name) == (encoder.fingerprint, encoder.name)
    clip = tone(440, 1.0)
    np.testing.assert_allclose(again.encode_audio([clip]), encoder.encode_audio([clip]), atol=1e-6)


def test_options_of_a_cluster_without_one_are_wrong_usage(recordings: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["index", str(recordings), "--db", str(tmp_path / "db"), "--address", "localhost:1"]
    )
    assert result.exit_code == 2
    assert "--address needs --engine ray" in result.output


def test_an_address_where_nobody_answers_is_an_error_at_once(recordings: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClaraError, match=f"no Ray cluster at {address}"):
        index([recordings], tmp_path / "db", ToneEncoder(), engine=Ray(address=address))
