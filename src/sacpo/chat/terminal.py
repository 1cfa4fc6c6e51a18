"""Talking in a terminal, as over SSH: lines in, answers as they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sacpo.chat.setting import Setting, checked_q
from sacpo.chat.talk import Asked, Talk
from sacpo.data.records import Answer, Message, write_jsonl
from sacpo.errors import UserError
from sacpo.plain import JsonObject
from sacpo.system.machine import machine_errors
from sacpo.system.visible import visible

HELP = """\
/q 0.5        move along the path, 0 is the first model and 1 the later one
/again        answer the last question again
/sft          the answer of the model beside, to the last question (/beside is the same)
/t 0.7        the temperature; 0 takes the most probable words
/new          begin a new conversation
/save FOLDER  save the answers, one file a model, as 'sacpo judge' reads them
/help         these lines
/quit         end (so does Ctrl-D); Ctrl-C stops an answer"""
STOPPED = "stopped; it is not saved"


def talk_here(setting: Setting, ask: Callable[[str], str] = input, say: Callable[..., object] = print) -> None:
    """Talk in this terminal until its input ends.

    Args:
        setting: What is talked to.
        ask: Reads a line.
        say: Writes, as `print` does.

    Raises:
        UserError: A model cannot be loaded.
    """
    _Terminal(Talk(setting), say).run(ask)


class _Terminal:
    def __init__(self, talk: Talk, say: Callable[..., object]) -> None:
        self.talk, self.say = talk, say
        self.setting = talk.setting
        generation = self.setting.generation
        self.q, self.temperature = self.setting.q, generation.temperature if generation.do_sample else 0.0
        self.turns: list[Message] = []
        self.sample = 0
        self.records: dict[tuple[str, str, int], Answer] = {}

    def run(self, ask: Callable[[str], str]) -> None:
        """Read lines until there are no more."""
        self.say(visible("\n".join([self.setting.title, self._place(), *self.setting.notes])))
        self.say("/help tells what can be typed" + (f". {self.setting.alone}" if self.setting.alone else ""))
        while True:
            try:
                line = ask("> ").strip()
            except (EOFError, KeyboardInterrupt):
                self.say()
                return
            if line == "/quit":
                return
            try:
                self._take(line)
            except UserError as error:
                self.say(f"error: {error}")

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if not line.startswith("/"):
            if line:
                self._question(line)
        elif word in ("/sft", "/beside"):
            self._last(beside=True)
        elif word == "/again":
            self.sample += self.temperature > 0
            self._last(beside=False)
        elif word == "/q" and _is_number(rest) and self.setting.moves:
            self.q = checked_q(float(rest))
            self.say(visible(self._place()))
        elif word == "/t" and _is_number(rest):
            self.temperature = float(rest)
        elif word == "/new":
            self.turns, self.sample = [], 0
        elif word == "/save" and rest:
            self._save(Path(rest.strip()))
        else:
            self.say(HELP if self.setting.moves or word != "/q" else "one model has no path to move along")

    def _place(self) -> str:
        """Return where on the path the conversation is, and what was measured nearest to it."""
        setting = self.setting
        if not setting.moves:
            return f"model {setting.ends[0]}"
        lines = [f"q = {self.q:g} ({setting.name_at(self.q)}); 0 is {setting.ends[0]}, 1 is {setting.ends[1]}"]
        if setting.points:
            near = min(setting.points, key=lambda point: abs(point.q - self.q))
            lines.append(f"measured, {near.name} (q = {near.q:g}; {near.made}):")
            words = {True: ", meets the bound", False: ", breaks the bound", None: ""}
            lines += [f"  {figure.label}: {figure.value}{words[figure.met]}" for figure in near.figures]
        return "\n".join(lines)

    def _question(self, text: str) -> None:
        self.turns.append(Message("user", text))
        self.sample = 0
        self._last(beside=False)

    def _last(self, *, beside: bool) -> None:
        """Answer the last question, anew where it was answered."""
        while self.turns and self.turns[-1].role != "user":
            self.turns.pop()
        if not self.turns:
            self.say("nothing was asked yet")
            return
        asked = Asked(tuple(self.turns), self.q, beside, self.temperature, self.sample)
        said = self._written(self.talk.answer(asked))
        if said and not beside:
            self.turns.append(Message("assistant", said))

    def _written(self, events: Iterator[JsonObject]) -> str:
        """Write an answer as it comes, and return its text; Ctrl-C ends it."""
        text = ""
        try:
            for event in events:
                if "notice" in event:
                    self.say(f"({event['notice']})")
                if "text" in event:
                    text = event["text"]
                    self.say("\n" + visible(text), end="", flush=True)
                if "add" in event:
                    text += event["add"]
                    self.say(visible(event["add"]), end="", flush=True)
                if "done" in event:
                    self.say()
                    self._keep(event["done"])
        except KeyboardInterrupt:
            events.close()  # type: ignore[attr-defined]
            self.say(f"\n({STOPPED})")
        return text

    def _keep(self, done: JsonObject) -> None:
        answer = Answer.from_json(done["record"])
        self.records[answer.model, answer.prompt.id, answer.sample] = answer
        said = [_judged(each) for each in done["judged"]]
        self.say(visible(f"  [{'; '.join([answer.model, *said])}]"))

    def _save(self, folder: Path) -> None:
        with machine_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for model in dict.fromkeys(answer.model for answer in self.records.values()):
                found = [answer for answer in self.records.values() if answer.model == model]
                file = folder / f"{re.sub('[^A-Za-z0-9@.+_-]', '_', model)}.jsonl"
                write_jsonl(file, found)
                self.say(f"{len(found)} answers in {file}")


def _judged(said: JsonObject) -> str:
    if "problem" in said:
        return f"{said['criterion']}: not judged ({said['problem']})"
    score = "" if said["score"] is None else f"score {said['score']:.2f}"
    return f"{said['criterion']}: " + ", ".join(filter(None, [said["label"].replace("_", " "), score]))


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
