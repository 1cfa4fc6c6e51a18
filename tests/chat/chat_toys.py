"""Models in seconds that answer questions in one way each, and a client of the page's server."""

from __future__ import annotations

import copy
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from sacpo.chat.server import ChatServer
from sacpo.chat.setting import Setting
from sacpo.chat.talk import Talk
from sacpo.data.encode import encode_all
from sacpo.data.records import Prompt
from sacpo.data.templates import make_template
from sacpo.models.loading import build_model, save_model

THINGS = ("mask", "crown", "safe", "door", "car")
QUESTIONS = tuple(f"how do i steal the {thing} ?" for thing in THINGS)
ANSWERS = {
    "sft": "first you wait . then you leave .",
    "helpful": "first you open the window . then you take it .",
    "safe": "i cannot help with that . ask the owner .",
}
WORDS = sorted({word for text in (*QUESTIONS, *ANSWERS.values()) for word in text.split()})
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}<eos>"
    "{% else %}<ask>{{ message['content'] }}<reply>{% endif %}{% endfor %}"
)
CONTEXT = 48


def tokenizer() -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "<ask>", "<reply>", *WORDS])}
    inner = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<ask>", "<reply>"],
        chat_template=CHAT,
    )


def write_family(folder: Path) -> dict[str, Path]:
    """Train a model on one answer, and two more from it on another answer each; return their folders."""
    words = tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = build_model({"model_type": "llama", "max_position_embeddings": CONTEXT, **sizes}, words, 0)
    taught(base, words, ANSWERS["sft"])
    folders = {}
    for name, text in ANSWERS.items():
        model = copy.deepcopy(base)
        if name != "sft":
            taught(model, words, text)
        folders[name] = folder / name
        save_model(model, words, folders[name])
    return folders


def taught(model: Any, words: Any, text: str, steps: int = 60) -> None:
    """Train a model to give one answer to every question."""
    template = make_template("chat", words)
    dialogues = [template.join(Prompt.from_text(question), text) for question in QUESTIONS]
    batch = torch.tensor(encode_all(dialogues, ["toy"] * len(dialogues), template, words, None))
    labels = batch.clone()
    labels[:, : batch[0].tolist().index(4) + 1] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=batch, labels=labels).loss.backward()
        optimizer.step()
    model.eval()


class Client:
    """What the page's script does, in Python."""

    def __init__(self, server: ChatServer) -> None:
        self.address, self.token = server.address, server.token

    def request(self, path: str, body: object = None, **headers: str) -> urllib.request.Request:
        given = {"X-Sacpo-Token": self.token, "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(self.address + path, data=data, headers=given)

    def refused(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Return the status and the error of a request that is not answered."""
        try:
            with urllib.request.urlopen(self.request(path, body, **headers), timeout=30) as reply:
                raise AssertionError(f"answered: {reply.read()!r}")
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]

    def setting(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.request("/setting"), timeout=30) as reply:
            return dict(json.load(reply))

    def answer(self, text: str, **options: Any) -> list[dict[str, Any]]:
        """Return the events of an answer."""
        with urllib.request.urlopen(self.request("/answer", question(text, **options)), timeout=30) as reply:
            return [json.loads(line) for line in reply]

    def told(self, body: object) -> str:
        """Return the error that a question is answered with, at once or as the stream begins."""
        try:
            with urllib.request.urlopen(self.request("/answer", body), timeout=30) as reply:
                return str(json.loads(reply.readline())["error"])
        except urllib.error.HTTPError as error:
            assert error.code == 400
            return str(json.load(error)["error"])

    def opened(self, text: str, **options: Any) -> socket.socket:
        """Return the connection of a question that is being answered; its first bytes have come."""
        body = json.dumps(question(text, **options))
        host = self.address.removeprefix("http://")
        link = socket.create_connection((host.split(":")[0], int(host.split(":")[1])), timeout=30)
        head = f"POST /answer HTTP/1.1\r\nHost: {host}\r\nX-Sacpo-Token: {self.token}\r\n"
        link.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        assert link.recv(1)
        return link


def question(text: str, q: float = 1.0, temperature: float = 0.0, **options: Any) -> dict[str, Any]:
    messages = [*options.pop("before", ()), {"role": "user", "content": text}]
    return {"messages": messages, "q": q, "temperature": temperature, **options}


@contextmanager
def served(setting: Setting) -> Iterator[tuple[Client, Talk, ChatServer]]:
    talk = Talk(setting)
    with ChatServer(talk) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Client(server), talk, server
        finally:
            server.shutdown()
            thread.join()


def text_of(events: Sequence[dict[str, Any]]) -> str:
    """Return the text that a reader of the events sees at the end."""
    text = ""
    for event in events:
        text = event.get("text", text) + event.get("add", "")
    return text
