"""Python's `lifetimes` on the members that `loyalty bench --only insight` draws. Needs: pip install lifetimes."""

import math
import time
import warnings

import numpy as np
import pandas as pd
from lifetimes import BetaGeoFitter, GammaGammaFitter, ParetoNBDFitter

warnings.filterwarnings("ignore")
MASK = (1 << 64) - 1


class Draws:
    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 32) / 4294967296.0 + 1e-10


def draw(count):
    draws, rows = Draws(5), []
    for _ in range(count):
        rate, leaves = 0.01 + 0.4 * draws.uniform() ** 4, 0.02 + 0.4 * draws.uniform() ** 2
        age = 7.0 + 721.0 * draws.uniform()
        day, last, repeats = 0.0, 0, 0
        while True:
            day += -7.0 * math.log(draws.uniform()) / rate
            if day >= math.floor(age) or (repeats > 0 and draws.uniform() < leaves):
                break
            if int(day) > last:
                last, repeats = int(day), repeats + 1
        each = sum(-math.log(draws.uniform()) for _ in range(3)) / 15.0
        spend = sum(-math.log(draws.uniform()) / each for _ in range(max(repeats, 1)))
        rows.append((repeats, last / 7.0, int(age) / 7.0, spend / max(repeats, 1)))
    return pd.DataFrame(rows, columns=["x", "t_x", "T", "mean"])


def timed(what, work):
    begin = time.perf_counter()
    done = work()
    print(f"{what}: {time.perf_counter() - begin:.3f} s")
    return done


frame = draw(23570)
bg = timed("BG/NBD fit", lambda: BetaGeoFitter().fit(frame["x"], frame["t_x"], frame["T"]))
print(dict(bg.params_))
pareto = timed("Pareto/NBD fit", lambda: ParetoNBDFitter().fit(frame["x"], frame["t_x"], frame["T"]))
print(dict(pareto.params_))
again = frame[frame["x"] > 0]
money = timed("Gamma-Gamma fit", lambda: GammaGammaFitter().fit(again["x"], again["mean"]))
many = pd.concat([frame] * 5, ignore_index=True).iloc[:100000]
clv = lambda: money.customer_lifetime_value(bg, many["x"], many["t_x"], many["T"], many["mean"], time=12, discount_rate=0.01, freq="W")
timed("lifetime value of 100000 members", clv)
timed("P(alive) of 100000 members", lambda: bg.conditional_probability_alive(many["x"], many["t_x"], many["T"]))
