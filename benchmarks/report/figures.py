"""Figures of a page, as inline SVG: lines, bars and a matrix, readable in light and dark and without a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 40
_COLOURS = ("#3b6fd4", "#d4763b", "#3aa76d", "#a64fc4", "#c4a23b", "#5b8f99")
_MOST_LABELS = 60


def line_chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str) -> str:
    """Return a chart of lines over a logarithmic x axis, from 1, and a y axis from 0 to 1.

    Args:
        title: what it shows.
        lines: points of each line, by its name.
        x_name: of the x axis.
        y_name: of the y axis.
    """
    right = max((x for points in lines.values() for x, _ in points), default=10.0)
    span = math.log10(max(right, 10.0))
    parts = [_axes(x_name, y_name, [10**power for power in range(int(span) + 1)], lambda x: math.log10(x) / span)]
    for number, points in enumerate(lines.values()):
        path = " ".join(f"{_x(math.log10(max(x, 1.0)) / span):.1f},{_y(y):.1f}" for x, y in points)
        colour = _COLOURS[number % len(_COLOURS)]
        dash = "" if number < len(_COLOURS) else ' stroke-dasharray="5 3"'
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{path}"/>')
    return _figure(title, "".join(parts), list(lines))


def bar_chart(title: str, edges: Sequence[float], bars: Mapping[str, Sequence[float]], x_name: str) -> str:
    """Return a histogram of one or several groups, each drawn over the others.

    Args:
        title: what it shows.
        edges: of the bins, one more than there are bars.
        bars: shares of the bins, by group.
        x_name: of the x axis.
    """
    used = [n for n in range(len(edges) - 1) if any(shares[n] for shares in bars.values())]
    first, last = (used[0], used[-1] + 1) if used else (0, len(edges) - 1)
    low, high = edges[first], edges[last]
    top = max((max(shares) for shares in bars.values()), default=0.0) or 1.0
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    y_name = f"share, up to {top:.0%}"
    parts = [_axes(x_name, y_name, ticks, lambda x: (x - low) / (high - low or 1), has_scale=False)]
    for number, shares in enumerate(bars.values()):
        for n in range(first, last):
            if shares[n]:
                left, right = (_x((edges[n + side] - low) / (high - low or 1)) for side in (0, 1))
                y = _y(shares[n] / top)
                parts.append(
                    f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left - 0.5, 0.5):.1f}" '
                    f'height="{_y(0) - y:.1f}" fill="{_COLOURS[number % len(_COLOURS)]}" fill-opacity="0.6"/>'
                )
    return _figure(title, "".join(parts), list(bars))


def category_chart(title: str, names: Sequence[str], shares: Sequence[float], x_name: str) -> str:
    """Return bars of named categories, with their shares above them.

    Args:
        title: what it shows.
        names: of the categories.
        shares: of each.
        x_name: of the x axis.
    """
    top = max(shares) or 1.0
    width = 1 / len(names)
    parts = [_axes(x_name, "share of the queries", [], float, has_scale=False)]
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        left, right, y = _x((number + 0.1) * width), _x((number + 0.9) * width), _y(0.94 * share / top)
        size = f'width="{right - left:.1f}" height="{_y(0) - y:.1f}"'
        parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" {size} fill="{_COLOURS[0]}" fill-opacity="0.8"/>')
        middle = (left + right) / 2
        label = f"{share:.0%}" if share else ""
        parts.append(f'<text x="{middle:.1f}" y="{y - 3:.1f}" text-anchor="middle" class="small">{label}</text>')
        turned = f'transform="rotate(-40 {middle:.1f} {_y(0) + 12})"'
        parts.append(
            f'<text x="{middle:.1f}" y="{_y(0) + 12}" text-anchor="end" class="small" {turned}>{escape(name)}</text>'
        )
    return _figure(title, "".join(parts), [])


def matrix(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return a confusion matrix, rows true and columns predicted, darker for a larger share of the row.

    Args:
        title: what it shows.
        labels: of rows and columns; names are written for up to 60.
        counts: by row and column.
    """
    side = max(10, min(32, 520 // max(len(labels), 1)))
    margin = 150 if len(labels) <= _MOST_LABELS else 10
    parts = []
    for row, counted in enumerate(counts):
        total = sum(counted) or 1
        for column, count in enumerate(counted):
            tip = escape(f"{labels[row]} as {labels[column]}: {count} of {total}")
            place = f'x="{margin + column * side}" y="{margin + row * side}" width="{side - 1}" height="{side - 1}"'
            colour = f'fill="{_COLOURS[0]}" fill-opacity="{0.05 + 0.95 * count / total:.3f}"'
            parts.append(f"<rect {place} {colour}><title>{tip}</title></rect>")
    if margin > 10:
        for number, label in enumerate(labels):
            middle, text = margin + number * side + side / 2 + 4, escape(label[:22])
            parts.append(f'<text x="{margin - 6}" y="{middle:.0f}" text-anchor="end">{text}</text>')
            turned = f'transform="rotate(-60 {middle:.0f} {margin - 6})"'
            parts.append(f'<text x="{middle:.0f}" y="{margin - 6}" {turned}>{text}</text>')
    size = margin + len(labels) * side + 10
    return _wrap(title, f'<svg viewBox="0 0 {size + 60} {size}" width="{size + 60}" role="img">{"".join(parts)}</svg>')


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axes(
    x_name: str, y_name: str, ticks: Sequence[float], place: Callable[[float], float], has_scale: bool = True
) -> str:
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP} V{_y(0)} H{WIDTH - _RIGHT}"/>']
    parts += [f'<path class="grid" d="M{_LEFT} {_y(share)} H{WIDTH - _RIGHT}"/>' for share in (0.0, 0.5, 1.0)]
    if has_scale:
        parts += [
            f'<text x="{_LEFT - 6}" y="{_y(share) + 4}" text-anchor="end">{share:g}</text>' for share in (0, 0.5, 1)
        ]
    for tick in ticks:
        label = f"{tick:g}" if tick == int(tick) else f"{tick:.2f}"
        parts.append(f'<text x="{_x(place(tick)):.1f}" y="{_y(0) + 15}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{_x(0.5)}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(
        f'<text x="12" y="{_y(0.5)}" text-anchor="middle" transform="rotate(-90 12 {_y(0.5)})">{escape(y_name)}</text>'
    )
    return "".join(parts)


def _figure(title: str, content: str, names: Sequence[str]) -> str:
    legend = "".join(
        f'<span><i style="background:{_COLOURS[number % len(_COLOURS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(title)}">{content}</svg>'
    return _wrap(title, f'{svg}<div class="legend">{legend}</div>')


def _wrap(title: str, content: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{content}</figure>"
