"""All verbs of the command line, one file each, in the order of the help."""

from __future__ import annotations

import typer

from sacpo.cli.align import align
from sacpo.cli.certify import certify
from sacpo.cli.chat import chat
from sacpo.cli.collect import collect
from sacpo.cli.convert import convert
from sacpo.cli.data import data
from sacpo.cli.demo import demo
from sacpo.cli.export import export
from sacpo.cli.generate import generate
from sacpo.cli.judge import judge
from sacpo.cli.label import label
from sacpo.cli.merge import merge
from sacpo.cli.new import new
from sacpo.cli.plan import plan
from sacpo.cli.push import push
from sacpo.cli.redteam import redteam
from sacpo.cli.report import report
from sacpo.cli.run import run
from sacpo.cli.schema import schema
from sacpo.cli.select import select
from sacpo.cli.sft import sft
from sacpo.cli.stats.command import stats
from sacpo.cli.theory import theory
from sacpo.cli.validate import validate

OF_RECIPES = (run, demo, validate, schema, new)
OF_FILES = (
    sft,
    align,
    merge,
    export,
    generate,
    chat,
    convert,
    collect,
    judge,
    label,
    stats,
    plan,
    select,
    certify,
    report,
    push,
)


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (*OF_RECIPES, *OF_FILES):
        app.command()(verb)
    app.add_typer(theory, name="theory")
    app.add_typer(data, name="data")
    app.add_typer(redteam, name="redteam")
