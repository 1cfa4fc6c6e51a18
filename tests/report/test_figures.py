"""Figures: points where the results say, labels that keep apart, drawings with words."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.text import Annotation
from report_world import ROWS, made_up

from sacpo.report.figures import all_drawings, frontier, short_name
from sacpo.report.labels import Mark, place_labels
from sacpo.report.results import parse_results
from sacpo.report.style import INK, SERIES, Drawing, colours, inline_svg, new_figure


def marks(drawing: Drawing) -> dict[str, tuple[float, float]]:
    """Return where each model's mark is drawn."""
    (axis,) = drawing.figure.axes
    by_gid = {line.get_gid(): line for line in axis.lines if line.get_gid()}
    return {
        note.splitlines()[0]: (float(by_gid[gid].get_xdata()[0]), float(by_gid[gid].get_ydata()[0]))  # type: ignore[arg-type,index]
        for gid, note in drawing.notes.items()
    }


@pytest.fixture(scope="module")
def drawings() -> dict[str, Drawing]:
    return all_drawings(parse_results(made_up()))


def test_every_model_is_where_its_report_figures_are(drawings: dict[str, Drawing]) -> None:
    assert marks(drawings["frontier"]) == {name: (row[0], row[1]) for name, row in ROWS.items()}
    assert marks(drawings["safety"]) == {name: (row[0], row[2]) for name, row in ROWS.items()}
    assert marks(drawings["optimum"]) == {name: (row[5], row[6]) for name, row in ROWS.items()}


def test_notes_and_alt_text_say_the_numbers(drawings: dict[str, Drawing]) -> None:
    notes = {note.splitlines()[0]: note for note in drawings["frontier"].notes.values()}
    assert "helpfulness win rate: 57.0 % (53.0 to 61.0 %)" in notes["H-S@0.25"]
    assert "harmlessness win rate: 84.5 % (81.6 to 87.4 %)" in notes["H-S@0.25"]
    assert drawings["frontier"].alt.endswith("H-S@0.25 is at 57.0 % and 84.5 %.")


def test_only_figures_with_data_are_drawn() -> None:
    assert set(all_drawings(parse_results(made_up()))) == {"frontier", "safety", "optimum", "training"}
    assert "optimum" not in all_drawings(parse_results(made_up(theory=None)))
    bare: dict[str, Any] = {"name": "x", "recipe": {}, "seed": 0, "models": {"sft": {"kind": "base"}}}
    assert all_drawings(parse_results(bare)) == {}


def test_the_base_is_drawn_where_another_model_is_the_baseline() -> None:
    drawn = all_drawings(parse_results(made_up(baseline="H")))
    assert marks(drawn["safety"]) == {name: (row[0], row[2]) for name, row in ROWS.items()}


def test_axes_are_the_recipes_criteria() -> None:
    results = made_up()
    results["recipe"]["report"] = {"x": "harmlessness", "y": "helpfulness"}
    drawing = frontier(parse_results(results))
    assert drawing is not None
    assert marks(drawing)["H"] == (0.305, 0.675)


def test_labels_do_not_hide_marks_or_each_other(drawings: dict[str, Drawing]) -> None:
    for name in ("frontier", "safety", "optimum"):
        (axis,) = drawings[name].figure.axes
        notes = [child for child in axis.get_children() if isinstance(child, Annotation)]
        assert len(notes) == len(ROWS)
        boxes = [note.get_window_extent() for note in notes]
        for i, box in enumerate(boxes):
            for other in boxes[i + 1 :]:
                width = min(box.x1, other.x1) - max(box.x0, other.x0)
                height = min(box.y1, other.y1) - max(box.y0, other.y0)
                assert min(width, height) <= 0, (notes[i].get_text(), name)


def test_labels_keep_off_strokes() -> None:
    """A line leads from the mark to the upper right, where a label would otherwise stand."""
    places = []
    for strokes in ((), [[(0.5, 0.5), (1.0, 0.9)]]):
        figure, (axis,) = new_figure(4, 4)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        figure.canvas.draw()
        place_labels(axis, [Mark(0.5, 0.5, "label", INK)], strokes=strokes)
        (note,) = [child for child in axis.get_children() if isinstance(child, Annotation)]
        places.append(note.xyann)
    assert places[0] == (6, 5)
    assert places[1] != (6, 5)


def test_short_names_tell_models_of_a_line_apart() -> None:
    assert short_name("H-S@0.1", "H-S") == "0.1"
    assert short_name("P@q0.5", "P") == "q0.5"
    assert short_name("H", "H") == "H"


def test_inline_drawings_take_the_pages_colours(drawings: dict[str, Drawing]) -> None:
    """On the page a series' colour is a variable, so that it can be lighter on a dark page."""
    svg = inline_svg(drawings["frontier"], "f")
    assert svg.startswith('<svg viewBox="')
    assert not [colour for colour in (INK, *SERIES) if colour in svg]
    assert "var(--s0)" in svg and "var(--ink)" in svg
    assert '<g id="f-point-0"><title>' in svg.replace("\n", "")
    assert "http" not in svg
    assert "font-family: var(--sans)" in svg or "px var(--sans)" in svg
    assert "DejaVu" not in svg


def test_sixteen_series_have_sixteen_looks() -> None:
    looks = colours([f"line{i}" for i in range(16)])
    assert len(set(looks.values())) == 16
    assert looks["line0"][0] == looks["line8"][0] == SERIES[0]
