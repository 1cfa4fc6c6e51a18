"""`sacpo validate` on the command line."""

from __future__ import annotations

import json

from sacpo.cli.of_recipe import Overrides, RecipeArgument, say_unchecked
from sacpo.cli.options import Json


def validate(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe without doing anything."""
    from sacpo.judging.llm.specs import check_judges
    from sacpo.recipe import load_recipe, model_graph
    from sacpo.recipe.notices import notices, unchecked

    loaded = load_recipe(recipe, overrides or [])
    check_judges(loaded)
    models = list(model_graph(loaded))
    said = {"notices": notices(loaded), "not_checked": unchecked(loaded)}
    if as_json:
        print(json.dumps({"name": loaded.name, "models": models, "valid": True, **said}))
        return
    print("\n".join([f"{recipe}: valid; {len(models)} models: {', '.join(models)}", *said["notices"]]))
    say_unchecked(said["not_checked"])
