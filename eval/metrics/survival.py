"""Survival from features: Cox's proportional hazards with a ridge, and Harrell's concordance.

Letters: N patients, D channels, R replicates. `time` (N,) is that of death or of the last visit, `event` (N,)
bool whether it is death.
"""

from __future__ import annotations

import numpy as np

from eval.metrics.resampling import draws


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float | None:
    """Share of comparable pairs in which the one who died first has the higher risk; equal ones count half.

    A pair is comparable where the earlier time is a death (Harrell et al. 1982, JAMA 247:2543). None where no
    pair is.
    """
    earlier, right = _pairs(time, event, risk)
    return float(right.sum() / earlier.sum()) if earlier.any() else None


def fit_cox(x: np.ndarray, time: np.ndarray, event: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Coefficients (D,) that maximise Cox's partial likelihood less ridge/2 times their squared length.

    Breslow's form for ties, minimised by L-BFGS (Cox 1972, J. R. Stat. Soc. B 34:187). `x` (N, D) should be
    standardised. Raises `ValueError` where nobody died.
    """
    from scipy.optimize import minimize

    deaths = event.astype(bool)
    if not deaths.any():
        raise ValueError("there is no event, so nothing can be fitted")
    order = np.argsort(-time, kind="stable")  # longest first: those at risk of each are those before it
    x, time, deaths = x[order], time[order], deaths[order]
    last = np.searchsorted(-time, -time, side="right") - 1  # (N,): end of each tie, all of it at risk

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        score = x @ beta  # (N,)
        top = score.max()
        weight = np.exp(score - top)
        at_risk = np.cumsum(weight)[last]  # (N,)
        mean = np.cumsum(weight[:, None] * x, axis=0)[last] / at_risk[:, None]  # (N, D)
        value = -(score[deaths] - np.log(at_risk[deaths]) - top).sum() + ridge / 2 * beta @ beta
        slope = -(x[deaths] - mean[deaths]).sum(axis=0) + ridge * beta
        return float(value), slope

    optimum = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(optimum.x)


def survival_cindex(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    folds: int = 5,
    ridge: float | None = None,
    seed: int = 0,
) -> dict[str, float] | None:
    """Concordance of risks predicted for patients left out of the fit: `{value, sd, low, high, chance}`.

    One row a patient. Deaths are spread evenly over the `folds`; only patients of one fold are compared, as
    risks of different fits are not on one scale. `ridge` defaults to D, which gives the risk a variance of 1
    before anything is seen. The bootstrap draws patients with the risks as they are; what other fits would
    change is not in it, so it is a little narrow. None with fewer deaths than folds, or where no pair can be
    compared.
    """
    deaths = event.astype(bool)
    if deaths.sum() < folds:
        return None
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    order = order[np.argsort(~deaths[order], kind="stable")]  # the dead first, each group in random order
    part = np.empty(len(x), dtype=int)
    part[order] = np.arange(len(x)) % folds
    risk = np.zeros(len(x))
    for fold in range(folds):
        train = part != fold
        mean, sd = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        beta = fit_cox(
            (x[train] - mean) / sd, time[train], deaths[train], x.shape[1] if ridge is None else ridge
        )
        risk[~train] = (x[~train] - mean) / sd @ beta
    earlier, right = _pairs(time, deaths, risk, part[:, None] == part[None, :])
    if not earlier.any():
        return None
    counts = draws(len(x), seed).astype(np.float64)  # (R, N)
    pairs = np.einsum("rn,rn->r", counts @ earlier, counts)
    over = np.einsum("rn,rn->r", counts @ right, counts)[pairs > 0] / pairs[pairs > 0]
    low, high = np.percentile(over, [2.5, 97.5])
    value = float(right.sum() / earlier.sum())
    return {
        "value": value,
        "sd": float(over.std(ddof=1)),
        "low": float(low),
        "high": float(high),
        "chance": 0.5,
    }


def _pairs(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, comparable: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) each, float: which pairs count, and how rightly each of them is ordered."""
    earlier = (time[:, None] < time[None, :]) & event[:, None].astype(bool) & comparable
    right = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return earlier.astype(np.float64), earlier * right
