"""Write the JSON schema of the parameter files, for editors and other tools.

The Pydantic models beside this module are the source;
`params/schema/*.json` is generated, committed, and compared by a test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.base.artifacts import canonical_json
from pipelines.study import PARAMS
from pipelines.study.cards import DataCard
from pipelines.study.model_entry import ModelEntry
from pipelines.study.reference import ReferenceFile
from pipelines.study.schema import StudyFile
from pipelines.study.strict import Strict

SCHEMAS: dict[str, type[Strict]] = {
    "study": StudyFile,
    "dataset": DataCard,
    "model": ModelEntry,
    "reference": ReferenceFile,
}


def schemas() -> dict[Path, str]:
    """The text of each schema file by its path."""
    return {
        PARAMS / "schema" / f"{name}.json": canonical_json(model.model_json_schema())
        for name, model in SCHEMAS.items()
    }


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        prog="python -m pipelines.study.json_schema", description=__doc__
    ).parse_args(argv)
    for path, text in schemas().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
