"""Draws the medians that come in on standard input, a panel for each case; runs where matplotlib is installed."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def draw(results, path):
    figure, panels = pyplot.subplots(len(results), 1, figsize=(9, 2.2 * len(results)), squeeze=False)
    for panel, (case, medians) in zip(panels[:, 0], results.items(), strict=True):
        peers = list(medians)[::-1]
        rates = [medians[peer]["rate"] for peer in peers]
        labels = [f"{medians[peer]['rate']:,.0f}/s, {medians[peer]['median_us']:,.0f} us" for peer in peers]
        bars = panel.barh(peers, rates, color=["tab:orange" if peer == "nameko 3" else "tab:blue" for peer in peers])
        panel.bar_label(bars, labels)
        panel.set_title(case, loc="left")
        panel.margins(x=0.25)
    figure.supxlabel("a second, and median latency")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


draw(json.load(sys.stdin), sys.argv[1])
