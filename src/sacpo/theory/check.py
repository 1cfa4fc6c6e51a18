"""Every claim of the theory, checked with numbers: what `sacpo theory check` prints."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.theory import counterexamples
from sacpo.theory.bounds import Floats, Measured, Worlds, measure
from sacpo.theory.instances import linear_worlds, random_worlds, worst_found
from sacpo.theory.multipliers import slater, solve
from sacpo.theory.population import dpo_optimum, ipo_optimum, kto_limit
from sacpo.theory.tabular import Table, kl, mean, mixture, objective, smallest_eta, softmax, tilted

EXACT, LEAST_KL = 1e-10, 1e-3
MOST_EXACT_WORLDS, LEARNED_WORLDS, STARTS, ROUNDS = 100, 60, 60, 300
MOST_INSTANCES = 1_000_000
ROUNDING = 1e-9
Verdict = Literal["holds", "fails", "differs", "not broken", "refuted"]


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        name: Where the claim is made.
        says: The claim.
        instances: Worlds in which it was looked at.
        worst: Its largest error; for a bound the largest excess of the left side over the right (negative: none).
        broken: Worlds that contradict it.
        verdict: "holds" and "fails" of what is exact, "differs" of a loss with another optimum, "not broken" and
            "refuted" of a bound.
    """

    name: str
    says: str
    instances: int
    worst: float
    broken: int
    verdict: Verdict


@dataclass(frozen=True)
class Check:
    """All claims, and the points of the figure.

    Attributes:
        claims: The table.
        points: Group: the actual figure and its bounds in each eligible world.
        counterexamples: Name: both sides of Theorem 3 in a world that breaks it.
    """

    seed: int
    instances: int
    claims: list[Claim]
    points: dict[str, dict[str, list[float]]]
    counterexamples: dict[str, dict[str, float]]

    def to_json(self) -> JsonObject:
        """Return everything but the points, JSON-ready."""
        return {
            "seed": self.seed,
            "instances": self.instances,
            "claims": [asdict(claim) for claim in self.claims],
            "counterexamples": self.counterexamples,
        }


def check(seed: int = 0, instances: int = 20_000) -> Check:
    """Check every claim on random small worlds.

    Args:
        seed: Root of all random numbers.
        instances: Random worlds for the bounds; exact claims take at most 100 of them.

    Raises:
        RecipeError: The seed is negative, or instances are not between 1 and a million.
    """
    if seed < 0:
        raise RecipeError("a seed cannot be negative", where="--seed", value=seed, allowed="0 or more")
    if not 1 <= instances <= MOST_INSTANCES:
        raise RecipeError(
            "so many instances cannot be checked", where="--instances", value=instances, allowed="1 to 1,000,000"
        )
    claims = _exact_claims(seed, min(instances, MOST_EXACT_WORLDS))
    groups = _groups(seed, instances)
    measured = {name: measure(worlds) for name, worlds in groups.items()}
    claims += _bound_claims(measured)
    special = {name: measured[name] for name in ("by hand", "linear by hand")}
    return Check(
        seed,
        instances,
        claims,
        {name: _points(found) for name, found in measured.items()},
        {
            name: {side: float(getattr(m, side)[0]) for side in ("violation", "printed", "repaired")}
            for name, m in special.items()
        },
    )


def _exact_claims(seed: int, n: int) -> list[Claim]:
    makers: list[tuple[str, str, Callable[[Table, list[Table], float, np.random.Generator], float], float]] = [
        ("Theorem 1", "a step with g on pi_r is the joint optimum", _stepwise, EXACT),
        ("Theorem 1", "the order of the two steps does not matter", _commutes, EXACT),
        ("Theorem 4", "three constraints, in any order, give one policy", _three, EXACT),
        ("Lemma 1", "one constraint: the dual's least value is R(pi*)", _duality_of_one, EXACT),
        ("Lemma 1", "three constraints: the same", _duality_of_three, EXACT),
        ("Lemma 2", "lambda* <= (R(pi*) - R(pi_bar)) / xi", _lemma_2, EXACT),
        ("path", "the mixture at q is the optimum for q lambda", _path, EXACT),
        ("DPO", "its population optimum is the closed form (KL)", _dpo, LEAST_KL),
    ]
    claims = []
    for name, says, error, allowed in makers:
        found = [error(*world) for world in _tables(seed, n)]
        broken = sum(not e <= allowed for e in found)
        claims.append(Claim(name, says, n, float(max(found)), broken, "fails" if broken else "holds"))
    others: list[tuple[str, Callable[..., Table]]] = [("IPO", ipo_optimum), ("KTO", kto_limit)]
    for name, optimum in others:
        far = [kl(optimum(p, p, 3 * f[0], 0.5), tilted(p, 3 * f[0], 0.5)) for p, f, *_ in _tables(seed, n)]
        says = "KL of its optimum to the closed form (largest)"
        claims.append(Claim(name, says, n, float(max(far)), sum(k > LEAST_KL for k in far), "differs"))
    return claims


def _tables(seed: int, n: int) -> Iterator[tuple[Table, list[Table], float, np.random.Generator]]:
    """Yield a reference of 3 prompts and 5 answers, four scores, beta, and random numbers for the rest."""
    for i in range(n):
        random = np.random.default_rng([seed, i])
        policy = softmax(random.normal(size=(3, 5)))
        yield policy, [random.uniform(-1, 1, (3, 5)) for _ in range(4)], float(random.uniform(0.2, 2)), random


def _far(first: Table, second: Table) -> float:
    return float(np.abs(first - second).max())


def _bounds_between(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> Floats:
    """Return bounds that can be met together: between pi_r and the policy with the most room above pi_r."""
    free = np.array([mean(tilted(policy, scores[0], beta), g) for g in scores[1:]])
    _, margin = slater(policy, np.stack(scores[1:]), free - 10)
    share = random.uniform(0.1, 0.9)
    return free + share * (margin - 10)


def _stepwise(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    """Solve one constraint for lambda* on pi_r and compare with the joint optimum of the dual."""
    reward, safety = scores[:2]
    aligned = tilted(policy, reward, beta)
    bound = _bounds_between(policy, scores[:2], beta, random)
    eta = smallest_eta(aligned, safety, float(bound[0]))
    joint = solve(policy, reward, safety[None], bound, beta=beta)
    apart = abs(eta * beta - joint.multipliers[0]) / (1 + eta * beta)
    return max(_far(tilted(aligned, eta * safety, 1.0), joint.policy), float(apart))


def _commutes(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    strength = beta / random.uniform(0.1, 5)
    one = tilted(tilted(policy, scores[0], beta), scores[1], strength)
    return _far(one, tilted(tilted(policy, scores[1], strength), scores[0], beta))


def _three(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    found = solve(policy, scores[0], np.stack(scores[1:]), _bounds_between(policy, scores, beta, random), beta=beta)
    factors = [1.0, *found.multipliers]
    worst = 0.0
    for order in itertools.permutations(range(4)):
        stepwise = policy
        for i in order:
            stepwise = tilted(stepwise, factors[i] * scores[i], beta)
        worst = max(worst, _far(stepwise, found.policy))
    return worst


def _duality(policy: Table, scores: list[Table], beta: float, random: np.random.Generator, n: int) -> float:
    some = scores[: n + 1]
    found = solve(policy, some[0], np.stack(some[1:]), _bounds_between(policy, some, beta, random), beta=beta)
    return max(abs(found.gap), found.breach)


def _duality_of_one(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    return _duality(policy, scores, beta, random, 1)


def _duality_of_three(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    return _duality(policy, scores, beta, random, 3)


def _lemma_2(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    """Return the largest excess of lambda* over Lemma 2's bound, over strictly feasible policies."""
    reward, safety = scores[:2]
    bound = _bounds_between(policy, scores[:2], beta, random)
    found = solve(policy, reward, safety[None], bound, beta=beta)
    safest, _ = slater(policy, safety[None], bound)
    best, worst = objective(found.policy, policy, reward, beta), -np.inf
    for share in (0.05, 0.3, 0.7, 1.0):
        other = share * safest + (1 - share) * found.policy
        room = mean(other, safety) - float(bound[0])
        worst = max(worst, found.multipliers[0] - (best - objective(other, policy, reward, beta)) / room)
    return float(worst)


def _path(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    top = random.uniform(0.1, 5)
    first = tilted(policy, scores[0], beta)
    later = tilted(policy, scores[0] + top * scores[1], beta)
    ways = [(mixture(first, later, q), tilted(policy, scores[0] + q * top * scores[1], beta)) for q in (0.1, 0.5, 0.8)]
    return max(_far(*way) for way in ways)


def _dpo(policy: Table, scores: list[Table], beta: float, random: np.random.Generator) -> float:
    return kl(dpo_optimum(policy, policy, scores[0], beta), tilted(policy, scores[0], beta))


def _groups(seed: int, instances: int) -> dict[str, Worlds]:
    def violation(worlds: Worlds) -> Floats:
        found = measure(worlds)
        with np.errstate(invalid="ignore"):
            share = found.violation / np.maximum(found.printed, 1e-6)
        return np.where(found.eligible & np.isfinite(found.lam), share, -1.0)

    def regret(worlds: Worlds) -> Floats:
        found = measure(worlds)
        with np.errstate(invalid="ignore"):
            share = found.regret / np.maximum(found.regret_bound, 1e-6)
        return np.where(np.isfinite(found.regret_bound), share, -1.0)

    groups = {"random": random_worlds(seed, instances)}
    groups["searched, Theorem 3"] = worst_found(seed, STARTS, ROUNDS, violation)[0]
    groups["searched, Theorem 2"] = worst_found(seed, STARTS, ROUNDS, regret)[0]
    for paired, kind in ((True, "pairs"), (False, "labels")):
        for n in (30, 300, 3000):
            groups[f"linear, {n:,} {kind}"] = linear_worlds(seed, LEARNED_WORLDS, labels=n, paired=paired)
    groups["by hand"] = counterexamples.by_hand()
    groups["linear by hand"] = counterexamples.linear()
    return groups


def _bound_claims(measured: dict[str, Measured]) -> list[Claim]:
    claims = []
    for title, says, left, right in (
        ("Theorem 2", "regret <= its bound", "regret", "regret_bound"),
        ("Theorem 3", "violation <= its bound, as printed", "violation", "printed"),
        ("repaired", "violation <= what the proof reaches", "violation", "repaired"),
    ):
        for kind in ("random", "searched", "linear", "by hand"):
            chosen = [m for name, m in measured.items() if _kind(name) == kind and _fits(name, title)]
            if chosen:
                claims.append(_bound_claim(f"{title}, {kind}", says, chosen, left, right))
    return claims


def _kind(name: str) -> str:
    return "by hand" if name.endswith("by hand") else name.split(",")[0]


def _fits(name: str, title: str) -> bool:
    """Say whether a group speaks of a claim: what was searched for one theorem does not count for the other."""
    return "searched" not in name or name.endswith("Theorem 2" if title == "Theorem 2" else "Theorem 3")


def _bound_claim(name: str, says: str, groups: list[Measured], left: str, right: str) -> Claim:
    excesses = []
    for m in groups:
        counted = np.isfinite(m.lam) & (m.eligible | (left == "regret"))
        excesses.append((getattr(m, left) - getattr(m, right))[counted])
    excess = np.concatenate(excesses)
    broken = int((excess > ROUNDING).sum())
    worst = float(excess.max()) if excess.size else 0.0
    return Claim(name, says, int(excess.size), worst, broken, "refuted" if broken else "not broken")


def _points(found: Measured) -> dict[str, list[float]]:
    counted = np.isfinite(found.lam) & found.eligible
    names = ("regret", "regret_bound", "violation", "printed", "repaired")
    return {name: [float(v) for v in getattr(found, name)[counted][:500]] for name in names}
