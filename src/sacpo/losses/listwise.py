"""The listwise loss of weighted samples: the policy's own weights of a prompt's answers against the target's."""

from __future__ import annotations

import torch


def listwise_loss(
    policy_logps: torch.Tensor,
    ref_logps: torch.Tensor,
    weights: torch.Tensor,
    ref_weights: torch.Tensor,
    lists: torch.Tensor,
) -> torch.Tensor:
    """Compute each list's cross-entropy, `-sum_j w_j log p_j`, with `p = softmax(log nu + log pi - log pi_ref)`.

    With `w` proportional to `nu exp(f)` it is least where `log pi - log pi_ref = f` up to a number of each list:
    answers that the target hardly gives are held down, which a likelihood does not see. That number is free: nothing
    here keeps probability from leaving all of a list's answers, so it stands beside a likelihood.

    Args:
        policy_logps: log pi of the answers, in nats. Shape: (answers,).
        ref_logps: log pi_ref of the answers. Shape: (answers,).
        weights: w, what the target gives them; of any sum. Shape: (answers,).
        ref_weights: nu, positive: what the reference gives them, 1 for a sample of its own. Shape: (answers,).
        lists: The number of each answer's list, from 0. Shape: (answers,) long.

    Returns:
        Each list's number at its place, 0 where it has one answer, and behind the last list. Shape: (answers,).

    Source: InfoNCA, Chen et al. 2024 (arXiv 2402.05369), with samples of pi_ref and one temperature.
    """
    logits = ref_weights.log() + policy_logps - ref_logps
    highest = torch.full_like(logits, -torch.inf).scatter_reduce(0, lists, logits.detach(), "amax")[lists]
    total = torch.zeros_like(logits).index_add(0, lists, (logits - highest).exp())[lists]
    return torch.zeros_like(logits).index_add(0, lists, weights * (total.log() + highest - logits))
