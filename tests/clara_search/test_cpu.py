"""The number of cores is that of the affinity mask or of the container's quota, whichever is smaller."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clara_search import cpu

VERSION_1 = "4:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n1:name=systemd:/\n"


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpu, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cpu, "_HIERARCHY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "9999999 100000\n"}, 64),
        ("0::/kube/pod/x\n", {"kube/cpu.max": "800000 100000\n", "kube/pod/cpu.max": "400000 100000\n"}, 4),
        (VERSION_1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 2),
        (VERSION_1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 64),
        (VERSION_1, {"memory/docker/1f/cpu.max": "100000 100000\n"}, 64),
        ("no such line\n", {"cpu.max": "100000 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "garbage\n"}, 64),
    ],
)
def test_a_quota_of_a_control_group_counts(hierarchy: Path, groups: str, files: dict[str, str], cores: int) -> None:
    (hierarchy / "groups").write_text(groups)
    for name, content in files.items():
        (hierarchy / name).parent.mkdir(parents=True, exist_ok=True)
        (hierarchy / name).write_text(content)
    assert cpu.core_count() == cores


def test_threads_are_limited_by_a_quota_unless_the_user_said_how_many(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpu.limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    (hierarchy / "groups").write_text("0::/\n")
    (hierarchy / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    cpu.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.delenv("OMP_NUM_THREADS")
    cpu.limit_threads()
    assert os.environ.pop("OMP_NUM_THREADS") == "2"
