"""What was out of the ordinary about a recording, in words for its user."""

from __future__ import annotations

from dataclasses import dataclass

from clara_search.audio.decode.blocks import Facts

_LATE_S = 0.1


@dataclass
class Notes:
    """Counts of what was out of the ordinary.

    Attributes:
        start_s: Where the sound starts in the recording, in seconds.
        other_tracks: Number of further audio tracks.
        track: The track that was asked for, among several.
        damaged: Number of packets that could not be decoded.
        gaps: Number of gaps that were filled with silence.
        gap_s: Their length in seconds.
        changes: How often sample rate or channels changed.
        is_silent: Whether the mix is silence though the channels are not.
        ended: Seconds decoded and declared, where damage cost the difference.
        stopped: Where decoding stopped, and why.
        has_no_end: Whether the end of the stream is not marked: it may have been cut off.
    """

    start_s: float = 0.0
    other_tracks: int = 0
    track: int | None = None
    damaged: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    changes: int = 0
    is_silent: bool = False
    ended: tuple[float, float] | None = None
    stopped: str | None = None
    has_no_end: bool = False

    def add(self, facts: Facts) -> None:
        """Add what a backend found out."""
        self.damaged += facts.damaged
        self.other_tracks = max(self.other_tracks, facts.other_tracks)
        self.track = self.track or facts.track

    def lines(self) -> list[str]:
        """Return the notes, each a few words."""
        lines = []
        if self.start_s >= _LATE_S:
            lines.append(f"starts at {self.start_s:.1f} s")
        if self.track is not None:
            lines.append(f"track {self.track} of {self.other_tracks + 1}")
        elif self.other_tracks:
            lines.append(f"other tracks: {self.other_tracks}")
        if self.damaged:
            lines.append(f"{self.damaged} packet{'s' * (self.damaged > 1)} damaged")
        if self.gaps:
            lines.append(f"{self.gaps} gap{'s' * (self.gaps > 1)} of {self.gap_s:.1f} s filled with silence")
        if self.changes:
            lines.append(f"rate or channels change {self.changes} time{'s' * (self.changes > 1)}")
        if self.is_silent:
            lines.append("mixed to silence")
        if self.ended is not None:
            lines.append(f"ends early: {self.ended[0]:.1f} of {self.ended[1]:.1f} s")
        if self.stopped is not None:
            lines.append(f"ends early: {self.stopped}")
        if self.has_no_end:
            lines.append("may be cut off: its end is not marked")
        return lines
