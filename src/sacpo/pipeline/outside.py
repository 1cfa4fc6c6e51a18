"""What a run or a single verb reads from outside: data, models and answers, known by their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sacpo.data.answers import answer_file, read_answers
from sacpo.data.prepare import prepare
from sacpo.data.records import Answer, Prompt
from sacpo.data.sources import read_source, source_key
from sacpo.merge.source import Checkpoint
from sacpo.recipe.schema import DataSpec, PromptsSpec
from sacpo.system.files import content_key, file_hash


class FromOutside:
    """Something that a stage reads from outside and that counts with its content."""

    @property
    def content(self) -> str:
        """Its content key."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source(FromOutside):
    """A data source.

    Attributes:
        name: For messages and the ids of records.
        spec: Where its records are and what they are used as.
    """

    name: str
    spec: DataSpec | PromptsSpec

    @cached_property
    def content(self) -> str:
        """The key of its name, its options and its files; the world's has none."""
        files = "" if self.spec.format == "world" else source_key(self.spec)
        return content_key([self.name, self.spec.model_dump(mode="json"), files])


@dataclass(frozen=True)
class OneFile(FromOutside):
    """A file that is read as it is."""

    path: str

    @cached_property
    def content(self) -> str:
        """Its hash."""
        return file_hash(Path(self.path))


@dataclass(frozen=True)
class RecordList:
    """Records in memory, as `sacpo.pipeline.stages.data.Records`."""

    train: list[Any]
    heldout: list[Any] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class FileRecords(FromOutside):
    """Records of files, read, cleaned and put together without a stage of their own.

    Attributes:
        specs: The files, and what they are used as.
        seed: The root of what is drawn.
    """

    specs: tuple[DataSpec, ...]
    seed: int

    @cached_property
    def content(self) -> str:
        """The key of the files and of how they are read."""
        specs = [[spec.model_dump(mode="json"), source_key(spec)] for spec in self.specs]
        return content_key([specs, self.seed])

    def load(self) -> RecordList:
        """Return the records of all files."""
        return self.records

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many rows and records are left out, by reason."""
        return self.records.dropped

    @cached_property
    def records(self) -> RecordList:
        """The records of all files, and how many were left out."""
        records = RecordList([])
        for spec in self.specs:
            name = ", ".join(spec.paths)
            found = read_source(spec, name=name, seed=self.seed, as_=spec.as_)
            prepared = prepare(found.records, spec, name=name, seed=self.seed)
            records.train.extend(prepared.train)
            records.heldout.extend(prepared.heldout)
            records.dropped.update(found.dropped)
            records.dropped.update(prepared.dropped)
        return records


@dataclass(frozen=True)
class FilePrompts(FromOutside):
    """Prompts of files, each once."""

    files: FileRecords

    @property
    def content(self) -> str:
        """The files' key."""
        return self.files.content

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many rows are left out, by reason."""
        return self.files.left_out

    def load(self) -> list[Prompt]:
        """Return the prompts."""
        records = [record for record in self.files.load().train if isinstance(record, Prompt)]
        return list({record.id: record for record in records}.values())


@dataclass(frozen=True)
class FileAnswers(FromOutside):
    """A file of answers, or the folder that `generate` wrote.

    Attributes:
        path: The file or folder.
        name: Names the model this, whatever the file says.
        prompts: What the prompts are, where the file does not say.
    """

    path: str | Path
    name: str | None = None
    prompts: str | None = None

    @cached_property
    def content(self) -> str:
        """The key of the file and of how it is read; errors as of `answer_file`."""
        return content_key([file_hash(answer_file(self.path)), self.name, self.prompts])

    def load(self) -> list[Answer]:
        """Return the answers; errors as of `read_answers`."""
        return read_answers(self.path, model=self.name, kind=self.prompts)


@dataclass
class Outside:
    """All that one run reads from outside, each thing once, so that its files are hashed once."""

    _models: dict[tuple[str, str | None], Checkpoint] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _files: dict[str, OneFile] = field(default_factory=dict)

    def file(self, path: str) -> OneFile:
        """Return a file."""
        return self._files.setdefault(path, OneFile(path))

    def model(self, place: str | Path, revision: str | None = None) -> Checkpoint:
        """Return a model by folder or hub id."""
        return self._models.setdefault((str(place), revision), Checkpoint(place, revision))

    def source(self, section: str, name: str, spec: DataSpec | PromptsSpec) -> Source:
        """Return a data source of a section of the recipe."""
        return self._sources.setdefault(f"{section}.{name}", Source(name, spec))
