"""Survival from features: Cox's proportional hazards with a ridge, and Harrell's concordance.

N patients, D channels. `time` (N,) is that of death or of the last visit, `event` (N,) bool whether it is
death.
"""

from __future__ import annotations

import numpy as np


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float | None:
    """Share of comparable pairs in which the one who died first has the higher risk; equal ones count half.

    A pair is comparable where the earlier time is a death (Harrell et al. 1982, JAMA 247:2543). None where no
    pair is.
    """
    return _concordance(time, event, risk, np.ones((len(time), len(time)), dtype=bool))


def fit_cox(x: np.ndarray, time: np.ndarray, event: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Coefficients (D,) that maximise Cox's partial likelihood less ridge/2 times their squared length.

    Breslow's form for ties, minimised by L-BFGS (Cox 1972, J. R. Stat. Soc. B 34:187). `x` (N, D) should be
    standardised. Raises `ValueError` where nobody died.
    """
    from scipy.optimize import minimize

    died = event.astype(bool)
    if not died.any():
        raise ValueError("no event, so nothing can be fitted")
    order = np.argsort(-time, kind="stable")  # longest first: those at risk of each are those before it
    x, time, died = x[order], time[order], died[order]
    last = np.searchsorted(-time, -time, side="right") - 1  # (N,): end of each tie, all of it at risk

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        score = x @ beta  # (N,)
        top = score.max()
        weight = np.exp(score - top)
        at_risk = np.cumsum(weight)[last]  # (N,)
        mean = np.cumsum(weight[:, None] * x, axis=0)[last] / at_risk[:, None]  # (N, D)
        value = -(score[died] - np.log(at_risk[died]) - top).sum() + ridge / 2 * beta @ beta
        slope = -(x[died] - mean[died]).sum(axis=0) + ridge * beta
        return float(value), slope

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def survival_cindex(
    x: np.ndarray, time: np.ndarray, event: np.ndarray, folds: int = 5, ridge: float = 1.0, seed: int = 0
) -> float | None:
    """Concordance of risks that were predicted for patients left out of the fit, in `folds` parts."""
    rng = np.random.default_rng(seed)
    part = rng.permutation(len(x)) % folds
    risk = np.zeros(len(x))
    for fold in range(folds):
        train = part != fold
        mean, sd = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        beta = fit_cox((x[train] - mean) / sd, time[train], event[train], ridge)
        risk[~train] = (x[~train] - mean) / sd @ beta
    same = part[:, None] == part[None, :]  # risks of different fits are not on one scale
    return _concordance(time, event, risk, same)


def _concordance(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, comparable: np.ndarray
) -> float | None:
    earlier = (time[:, None] < time[None, :]) & event[:, None].astype(bool) & comparable  # (N, N)
    pairs = int(earlier.sum())
    if not pairs:
        return None
    above = (risk[:, None] > risk[None, :]) & earlier
    equal = (risk[:, None] == risk[None, :]) & earlier
    return float((above.sum() + 0.5 * equal.sum()) / pairs)
