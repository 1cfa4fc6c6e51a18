"""The tables of `sacpo stats` as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.plain import JsonMapping
from sacpo.stats.plain import estimate_cells, number_cell, section, value_cell
from sacpo.stats.report import rate_section, render
from sacpo.stats.unread import reasons_text

GOLD_COLUMNS = (
    "judge;criterion;gold;right, ab;right, ba;right in both;agreement;same reply, unread or not;items;unread;"
    "without gold"
)


def render_stats(result: JsonMapping) -> str:
    """Return what `stats_command` found as plain text for a terminal or a file."""
    return "\n".join(_set_text(tables, named=len(result["sets"]) > 1) for tables in result["sets"])


def _set_text(tables: JsonMapping, named: bool) -> str:
    name = tables["prompts"]
    title = f"== prompts: {name or 'not said'} ==\n\n" if named or name else ""
    chosen = {**tables, "tests": [] if tables["against"] else tables["tests"]}
    own = [*_of_models(tables), *_of_judges(tables)]
    return title + "\n\n".join([render(chosen).rstrip("\n"), *(text for text in own if text)]) + "\n"


def _of_models(tables: JsonMapping) -> list[str]:
    return [
        section(
            "Every model against one, on the same prompts (sign-flip and sign tests; Holm over the table)",
            "first;second;measure;criterion;judge;difference;95 %;p;p Holm;p sign;detectable",
            [_against_cells(row) for row in tables["against"]],
        ),
        section(
            "Detectable distance of a win rate from 1/2 (power .8, two-sided .05; alone, and with Holm over the table)",
            "model;baseline;criterion;judge;clusters;alone;in the table",
            [_detectable_cells(row) for row in tables["detectable"]],
        ),
        section(
            "Length-controlled win rate (at equal lengths; length effect in log-odds, above 0: longer answers win)",
            "model;baseline;criterion;judge;controlled;95 %;prompts;left out;plain;length effect;longer by;official",
            [_length_cells(row) for row in tables["length_controlled"]],
        ),
        section(
            "AlpacaEval's figures, in percent",
            "model;baseline;criterion;judge;win rate;standard error;discrete win rate;n",
            [_leaderboard_cells(row) for row in tables["leaderboard"]],
        ),
        _rates("Unsafe answers by category", tables["unsafe"]),
        _rates("Refused harmless prompts by category", tables["over_refusal"]),
        _rates("Refused restricted prompts by category", tables["refused_restricted"]),
        *(
            rate_section(
                f"{degree.capitalize()} refusals alone, {prompts} prompts",
                [row for row in tables["refusals_apart"] if (row["degree"], row["prompts"]) == (degree, prompts)],
            )
            for prompts in ("borderline", "restricted")
            for degree in ("full", "partial")
        ),
    ]


def _of_judges(tables: JsonMapping) -> list[str]:
    return [
        section(
            "Share of the longer answer (ties half; .5 without length bias)",
            "judge;criterion;share;95 %;verdicts;unknown lengths",
            [
                [row["judge"], row["criterion"], *estimate_cells(row["longer_share"])]
                for row in tables["reliability"]
                if row["longer_share"] is not None
            ],
        ),
        section(
            "Share of the answer shown first, orders drawn at random (ties half; .5 without bias)",
            "judge;criterion;share;95 %;verdicts",
            [
                [row["judge"], row["criterion"], *estimate_cells(row["first_share"])[:3]]
                for row in tables["shown_first"]
            ],
        ),
        section(
            "Judges that label or rate single answers",
            "judge;criterion;verdicts, unread replies included;unparsed;repeats agree",
            [_labelled_cells(row) for row in tables["labelled"]],
        ),
        section(
            "What judges were asked, and why replies could not be read (judge --ask-again asks those once more)",
            "judge;criterion;asked;read;unparsed;why",
            [_unread_cells(row) for row in tables["unread"]] if any(row["reasons"] for row in tables["unread"]) else [],
        ),
        *(
            _distances(table) if table["kind"] == "rating" else _agreement(table)
            for table in [*tables["agreement"], *tables["agreement_by_model"]]
        ),
        section(
            "Judges against gold labels (a reply that could not be read is wrong; agreement is of the two orders)",
            GOLD_COLUMNS,
            [_gold_cells(row) for row in tables["gold"]],
        ),
        section(
            "Judges against gold labels, each category alone",
            f"category;{GOLD_COLUMNS}",
            [[row["category"] or "-", *_gold_cells(row)] for row in tables["gold_by_category"]],
        ),
    ]


def _against_cells(row: JsonMapping) -> list[str]:
    return [
        *(row[name] for name in ("first", "second", "measure", "criterion", "judge")),
        *estimate_cells(row["difference"])[:2],
        *(f"{row[name]:.4f}" for name in ("p_sign_flip", "p_holm", "p_sign")),
        number_cell(row["minimum_detectable_difference"]),
    ]


def _detectable_cells(row: JsonMapping) -> list[str]:
    names = [row[name] for name in ("model", "baseline", "criterion", "judge")]
    return [*names, str(row["clusters"]), number_cell(row["alone"]), number_cell(row["in_table"])]


def _length_cells(row: JsonMapping) -> list[str]:
    names = [row[name] for name in ("model", "baseline", "criterion", "judge")]
    slope, difference = f"{row['length_slope']:+.2f}", f"{row['mean_length_difference']:+.0f}"
    theirs = "-" if row["alpaca_eval"] is None else f"{row['alpaca_eval']['length_controlled_winrate']:.2f} %"
    return [*names, *estimate_cells(row["controlled"]), estimate_cells(row["raw"])[0], slope, difference, theirs]


def _leaderboard_cells(row: JsonMapping) -> list[str]:
    names = [row[name] for name in ("model", "baseline", "criterion", "judge")]
    figures = [f"{row[name]:.2f}" for name in ("win_rate", "standard_error", "discrete_win_rate")]
    return [*names, *figures, str(row["n_total"])]


def _rates(title: str, tables: Sequence[JsonMapping]) -> str:
    rows = []
    for table in tables:
        named = [rate for rate in table["categories"] if rate["category"]]
        for rate in named:
            rows.append(
                [
                    *(table[name] for name in ("model", "criterion", "judge")),
                    *(rate["category"], str(rate["events"])),
                    *estimate_cells(rate["rate"]),
                    number_cell(rate["upper95_one_sided"]),
                ]
            )
    return section(
        title, "model;criterion;judge;category;events;rate;95 %;answers;unparsed;at most (one-sided 95 %)", rows
    )


def _agreement(table: JsonMapping) -> str:
    rows = [
        [
            *(pair["first"], pair["second"]),
            *estimate_cells(pair["cohen_kappa"])[:3],
            value_cell(pair["agreement"]),
            str(pair["agreement"]["unparsed"]),
        ]
        for pair in table["pairs"]
    ]
    text = section(
        f"Agreement of judges on {table['criterion']}, {table['kind']}"
        + (f", answers of {table['model']}" if "model" in table else ""),
        "first;second;Cohen's kappa;95 %;items;same label;unread",
        rows,
    )
    for name, title in (("fleiss_kappa", "all"), ("fleiss_kappa_people", "people")):
        kappa = table[name]
        if kappa is not None and kappa["value"] is not None:
            text += f"\nFleiss' kappa, {title}: {value_cell(kappa)} ({kappa['n']} items)"
    return text


def _distances(table: JsonMapping) -> str:
    rows = [
        [
            *(pair[name] for name in ("first", "second")),
            *estimate_cells(pair["difference"]),
            number_cell(pair["distance"]["value"]),
        ]
        for pair in table["pairs"]
    ]
    return section(
        f"Distance of judges' scores of {table['criterion']}"
        + (f", answers of {table['model']}" if "model" in table else ""),
        "first;second;first minus second;95 %;answers;unread;mean distance",
        rows,
    )


def _labelled_cells(row: JsonMapping) -> list[str]:
    shares = (value_cell(row[name]) for name in ("unparsed_rate", "repeat_agreement"))
    return [row["judge"], row["criterion"], str(row["verdicts"]), *shares]


def _unread_cells(row: JsonMapping) -> list[str]:
    counts = (row["asked"], row["read"], row["asked"] - row["read"])
    return [row["judge"], row["criterion"], *map(str, counts), reasons_text(row["reasons"]) or "-"]


def _gold_cells(row: JsonMapping) -> list[str]:
    said = row["accuracy"]
    orders = [said.get(order, said.get("") if order == "ab" else None) for order in ("ab", "ba")]
    shares = [*orders, row["both_correct"], row["positional_agreement"], row["same_reply"]]
    return [
        *(row[name] for name in ("judge", "criterion", "gold")),
        *("-" if share is None else value_cell(share) for share in shares),
        str(row["items"]),
        str(sum(share["unparsed"] for share in said.values())),
        str(row["without_gold"]),
    ]
