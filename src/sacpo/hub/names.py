"""What a user names of the hub: a repository, a licence, a benchmark's task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sacpo.errors import RecipeError
from sacpo.recipe.explain import did_you_mean

PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"({PART})/({PART})")
LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "gpl-2.0", "gpl-3.0", "lgpl-2.1"),
    *("lgpl-3.0", "agpl-3.0", "mpl-2.0", "isc", "zlib", "unlicense", "wtfpl", "bsl-1.0", "eupl-1.2", "ecl-2.0"),
    *("artistic-2.0", "afl-3.0", "epl-2.0", "ms-pl", "osl-3.0", "postgresql", "ncsa", "cc0-1.0", "cc-by-2.0"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "c-uda"),
    *(
        "cdla-sharing-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "openrail",
        "openrail++",
        "creativeml-openrail-m",
    ),
    *("bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "llama2", "llama3", "llama3.1"),
    *(
        "llama3.2",
        "llama3.3",
        "llama4",
        "gemma",
        "apple-amlr",
        "apple-ascl",
        "deepfloyd-if-license",
        "fair-noncommercial-research-license",
    ),
    *("intel-research", "h-research", "lppl-1.3c", "ofl-1.1", "gfdl", "grok2-community", "etalab-2.0", "other"),
)
"""The hub's identifiers of licences. Source: https://huggingface.co/docs/hub/repositories-licenses"""


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of a data set that the hub counts as a benchmark, and the metric of a run that is its result."""

    metric: str
    dataset: str
    task: str


def check_repository(name: str, where: str = "USER/NAME") -> str:
    """Return the id of a repository.

    Raises:
        RecipeError: It is not USER/NAME.
    """
    if REPOSITORY.fullmatch(name) is None:
        raise RecipeError(
            "a repository of the hub is named by its owner and its name",
            where=where,
            value=name,
            allowed="USER/NAME of letters, digits, '-', '_' and '.', at most 96 in each part",
            do="give your user name or organisation, a slash, and a name for the model",
        )
    return name


def check_license(license: str | None, name: str | None, link: str | None) -> dict[str, str]:
    """Return a card's fields about a licence; empty where none is known.

    Raises:
        RecipeError: The hub has no such licence, or a licence of one's own has no name.
    """
    if license is None and (name or link):
        raise RecipeError(
            "a licence's name and link belong to 'other'",
            where="--license",
            do="add --license other, or leave them out",
        )
    if license is None:
        return {}
    if license not in LICENSES:
        advice = "take --license other --license-name NAME --license-link URL for one that the hub does not list"
        raise RecipeError(
            "the hub knows no such licence",
            where="--license",
            value=license,
            do=did_you_mean(license, LICENSES, advice),
        )
    if (license == "other") != (name is not None) or (link is not None and license != "other"):
        raise RecipeError(
            "a licence 'other' has a name, and no other licence has one",
            where="--license-name",
            value=name,
            do="give --license other --license-name NAME (and --license-link URL), or the licence alone",
        )
    return {"license": license, **({"license_name": name} if name else {}), **({"license_link": link} if link else {})}


def benchmark_task(text: str) -> BenchmarkTask:
    """Return METRIC=USER/DATA:TASK as a benchmark's task.

    Raises:
        RecipeError: It is not of this form.
    """
    metric, sign, target = text.partition("=")
    dataset, colon, task = target.partition(":")
    if not (metric and sign and colon and task) or REPOSITORY.fullmatch(dataset) is None:
        raise RecipeError(
            "a result of a benchmark is METRIC=USER/DATA:TASK",
            where="--benchmark",
            value=text,
            do="take the task from the data set's eval.yaml, as in unsafe_rate=USER/DATA:default",
        )
    return BenchmarkTask(metric, dataset, task)
