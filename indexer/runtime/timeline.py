"""A picture of a run: how busy each stage was over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clara_search.errors import MissingDependency, OutputError
from indexer.runtime.timers import StageTimers

_COLOURS = {"list": "#9aa5b1", "decode": "#3b82b6", "encode": "#d9822b", "write": "#5a9e6f"}


def require_matplotlib() -> Any:
    """Return matplotlib's pyplot, without a screen. Raises MissingDependency if it is not installed."""
    try:
        import matplotlib as installed
    except ImportError as error:
        raise MissingDependency("a timeline is drawn with matplotlib: pip install 'clara-search[profile]'") from error
    installed.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw_timeline(timers: StageTimers, duration_s: float, path: Path) -> None:
    """Draw how many threads of each stage were at work over time.

    Args:
        timers: the timers of the run.
        duration_s: wall time of the run.
        path: the image to write; its suffix is the format.

    Raises:
        MissingDependency: matplotlib is not installed.
        OutputError: the image cannot be written.
    """
    pyplot = require_matplotlib()
    stages = timers.items()
    figure, axes = pyplot.subplots(len(stages), sharex=True, figsize=(9, 1.5 * len(stages)), layout="constrained")
    for axis, (name, timer) in zip(axes, stages.items(), strict=True):
        bin_s, worked = timer.timeline()
        count = max(1, int(duration_s / bin_s) + 1)
        times = [index * bin_s for index in range(count + 1)]
        axis.stairs([worked_s / bin_s for worked_s in worked[:count]], times, fill=True, color=_COLOURS[name])
        axis.set_ylim(bottom=0)
        axis.set_ylabel(name)
        axis.set_title(f"worked {timer.worked_s:.1f} s, waited {timer.waited_s:.1f} s", loc="right", fontsize=9)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_title("threads at work", loc="left", fontsize=9)
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, max(duration_s, bin_s))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: the picture cannot be written ({error})") from error
    finally:
        pyplot.close(figure)
