"""Experiment 3: what a return becomes when every gradient is exactly tau updates late."""

import numpy as np

from benchmarks.claims.common import best_rate, difference, interval, late_return, main, report, seeds_note, sweep
from benchmarks.figures import caption, legend_above, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c import a3c, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony

DELAYS = (0, 1, 3, 7, 15, 31, 63)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def config(sizes, learning_rate, lag=0.0, **changes):
    """One worker with 16 environments, whose gradients are all ``lag`` updates old."""
    base = replace(
        a3c.Config(),
        num_workers=1,
        envs_per_worker=16,
        rollout_length=5,
        total_frames=sizes.frames,
        learning_rate=learning_rate,
        hidden_sizes=(32,),
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=max(DELAYS)),
    )
    return replace(base, **changes)


def measure(sizes):
    """Return against the delay tau of every gradient, the learning rate swept for each tau."""

    def run(key, lag, learning_rate):
        return late_return(make_train(config(sizes, learning_rate, lag))(key).metrics)

    returns = sweep(run, {"lag": DELAYS, "learning_rate": RATES}, sizes.seeds)  # [delays, rates, seeds]
    best = best_rate(returns)
    rates = np.array(RATES)[best]
    fixed = returns[:, best[0]]
    swept = np.take_along_axis(returns, best[:, None, None], 1)[:, 0]

    rows = []
    for i, delay in enumerate(DELAYS):
        cells = ["{:.0f} ({:.0f} - {:.0f})".format(*interval(x[i])) for x in (fixed, swept)]
        rows.append([delay, cells[0], cells[1], f"{rates[i]:g}"])
    table = "Return late in training (interquartile mean over seeds, 95 % interval).\n\n" + markdown_table(
        ["delay", f"at the rate that is best without delay, {rates[0]:g}", "at its own best rate", "which is"], rows
    )
    slope = np.polyfit(np.log(np.array(DELAYS) + 1), np.log(rates), 1)[0]
    loss, low, high = difference(fixed[0], fixed[-1])
    falls = low > 0 and rates[-1] < rates[0]
    report(
        3,
        "staleness",
        "The later gradients are, the worse it gets, unless the learning rate is lowered with the delay.",
        "confirmed" if falls else "refuted" if high < 0 else "not decided",
        f"at the rate that is best without delay, a delay of {DELAYS[-1]} costs {loss:.0f} ({low:.0f} to {high:.0f}) "
        f"of return; the best rate falls from {rates[0]:g} to {rates[-1]:g}, like (delay + 1)^{slope:.2f}.",
        table,
        draw,
        {"delays": DELAYS, "rates": RATES, "returns": returns},
        sizes,
    )


def draw(found):
    """Figure of the return against the delay for each rate, and of the best rate against the delay."""
    delays, returns = found["delays"], np.array(found["returns"])
    best = np.array(found["rates"])[best_rate(returns)]
    figure, (left, right) = panels(2, height=4.2)
    for color, rate, values in zip(shades(len(found["rates"])), found["rates"], returns.swapaxes(0, 1), strict=True):
        middle, low, high = interval(values)
        left.plot(range(len(delays)), middle, "o-", color=color, label=f"rate {rate:g}")
        left.fill_between(range(len(delays)), low, high, color=color, alpha=0.15, lw=0)
    left.set(xticks=range(len(delays)), xticklabels=delays, xlabel="delay of every gradient, updates")
    left.set(ylabel="return late in training", ylim=(0, 515), title="A3C on CartPole-v1")
    legend_above(figure, left, len(found["rates"]))
    right.plot(np.array(delays) + 1, best, "o-", color="C3", label="best of the rates")
    right.plot(np.array(delays) + 1, best[0] / (np.array(delays) + 1), ":", color="0.4", label="1 / (delay + 1)")
    right.set(xscale="log", yscale="log", xlabel="delay + 1, updates", ylabel="learning rate")
    right.set(xticks=np.array(delays) + 1, xticklabels=np.array(delays) + 1)
    right.minorticks_off()
    right.set(yticks=found["rates"][:-1], yticklabels=[f"{rate:g}" for rate in found["rates"][:-1]])
    right.set_title("the best rate falls with the delay")
    right.legend()
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
