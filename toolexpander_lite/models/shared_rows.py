"""Which tokens of a batch are the same, and where each is computed once.

Rows are sorted, so that those that begin alike stand together. A column, the cut, is chosen so that fewest tokens are
computed: each distinct beginning up to it once, and the rests of the rows in bins. A bin holds rests of one group, one
after another without padding; a rest that begins as the one before it takes those tokens from there. A bin is about as
long as the prompt, so that attention costs little more than the prompt's.
"""

import math
from types import SimpleNamespace

import numpy as np

LEAST_SAVING = 0.1  # share of the tokens; with less to save a batch is computed as it is


def plan_rows(ids, mask, one_pass=False):
    """Where each token of a batch is computed.

    Args:
        ids, mask: (rows, columns) integers; the mask is 0 for padding. one_pass: no first pass, whole rows in bins.

    Returns:
        None if too little is shared, else arrays. `first` (groups,): a row of each group. `left`, `cut`: columns of the
        first pass. `ids`, `columns` (bins, width), `sees` (bins, width, width): the second pass. `owner` (bins,): the
        bins' groups. `where` (rows, columns): each token's place in both passes, flattened one after the other.
    """
    rows, columns = ids.shape
    real = mask.astype(bool)
    keys = np.where(real, ids + 1, 0)
    order = np.array(sorted(range(rows), key=[row.tobytes() for row in keys.astype(">u4")].__getitem__))  # as numbers
    keys, all_ends = keys[order], np.where(real.any(1), columns - real[:, ::-1].argmax(1), 0)
    ends, left = all_ends[order], int(np.where(real.any(1), real.argmax(1), columns).min())
    differs = keys[1:] != keys[:-1]
    shared = np.where(differs.any(1), differs.argmax(1), columns)  # columns in common with the row before
    shared = np.append(0, np.minimum(shared, np.minimum(ends[1:], ends[:-1])))
    cuts = np.unique(shared[shared > left])
    groups = (shared < cuts[:, None]).sum(1)
    # At best, rests share all that they have in common with the one before; `_bins` knows what they do share.
    least = groups * (cuts - left) + np.maximum(ends - np.maximum(shared, cuts[:, None]), 0).sum(1)
    best, cut = int((1 - LEAST_SAVING) * rows * columns), None
    for i in np.argsort(least, kind="stable"):
        if least[i] < best:
            bins, width = _bins(shared.tolist(), ends.tolist(), left, int(cuts[i]), one_pass)
            tokens = len(bins) * width + (0 if one_pass else int(groups[i] * (cuts[i] - left)))
            best, cut = (tokens, int(cuts[i])) if tokens < best else (best, cut)
    if cut is None:
        return None
    bins, width = _bins(shared.tolist(), ends.tolist(), left, cut, one_pass)
    group, start = np.cumsum(shared < cut) - 1, left if one_pass else cut
    first, size = order[np.flatnonzero(np.diff(group, prepend=-1))], (len(bins), width)
    plan = SimpleNamespace(
        first=first, left=left, cut=start, owner=np.array([group[b[0]] for b in bins], int), where=np.zeros_like(ids),
        ids=np.zeros(size, int), columns=np.full(size, start), sees=np.zeros((*size, width), bool),
    )  # fmt: skip
    plan.where[order, left:start] = (group * (start - left))[:, None] + np.arange(start - left)
    for b, box in enumerate(bins):
        path, used = np.zeros(0, int), 0
        for i in box:
            row, at = order[i], np.arange(start, ends[i])
            kept = max(shared[i] - start, 0) if used else 0
            path = np.append(path[:kept], np.arange(used, used + len(at) - kept))
            used += len(at) - kept
            plan.where[row, at] = len(first) * (start - left) + b * width + path
            plan.ids[b, path], plan.columns[b, path] = ids[row, at], at
            plan.sees[b, path[kept:, None], path] = (np.tri(len(path), dtype=bool) & real[row, at])[kept:]
    plan.sees |= np.eye(width, dtype=bool)  # a softmax over nothing, in an unused place, would give NaN to all
    return plan


def _bins(shared, ends, left, cut, one_pass):
    """Rows, in sorted order, by bin -> (list of lists of their numbers; tokens in the fullest)."""
    start = left if one_pass else cut
    room = math.inf if one_pass else max(max(ends) - cut, cut - left)
    firsts = [i for i, common in enumerate(shared) if common < cut] + [len(shared)]
    bins, width = [], 0
    for a, b in zip(firsts, firsts[1:]):
        rests = [i for i in range(a, b) if ends[i] > start]
        total = sum(ends[i] - max(shared[i], start) for i in rests)
        target = size = total / max(1, math.ceil(total / room))  # the bins of a group are about equally full
        for i in rests:
            if size >= target:
                bins.append([])
                size = 0
            size += ends[i] - (max(shared[i], start) if bins[-1] else start)
            bins[-1].append(i)
            width = max(width, size)
    return bins, width
