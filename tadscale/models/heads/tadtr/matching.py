"""One-to-one matching of sets at the least total cost: of queries with actions, or with another network's queries."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match(cost: Tensor, exists: Tensor) -> Tensor:
    """The Hungarian assignment of each window's queries to what is there (Carion et al., DETR, ECCV 2020, eq. 1).

    On the CPU, window by window; all costs travel there at once. What costs no number is the dearest: a run that diverged
    is found by its loss.

    Args:
        cost: `[B, Q, N]` of query q answering for n; no gradient is taken.
        exists: `[B, N]` bool; false where n is padding.

    Returns:
        `[B, Q]` int64: which n each query answers for, -1 for none. As many pairs as the smaller side has.
    """
    costs = np.nan_to_num(cost.detach().double().cpu().numpy(), nan=1e9, posinf=1e9, neginf=-1e9)
    there = exists.cpu().numpy()
    answers = np.full(cost.shape[:2], -1, np.int64)
    for window in range(len(costs)):
        columns = np.flatnonzero(there[window])
        query, column = linear_sum_assignment(costs[window][:, columns])
        answers[window, query] = columns[column]
    return torch.from_numpy(answers).to(cost.device)
