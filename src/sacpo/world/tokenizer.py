"""The world's tokenizer: one token a word."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sacpo.world import language
from sacpo.world.tasks import Task

PAD, EOS, UNKNOWN, USER, ASSISTANT = "<pad>", "<eos>", "<unk>", "<user>", "<assistant>"
CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} {{ message['content'] }} <eos>"
    "{% else %}<user> {{ message['content'] }} <assistant>{% endif %}"
    "{% endfor %}"
)


def word_level(tasks: Sequence[Task]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are all that prompts and answers of these tasks are made of, sorted."""
    texts = [task.text for task in tasks] + [step for task in tasks for step in task.steps]
    texts += [*language.OPENERS, *language.CONTEXTS, *language.CLOSINGS, *language.ORDER, *language.KEEPERS]
    texts += [frame.replace("{task}", "") for frame in language.FRAMES]
    texts += [*language.FILLER, *language.RUDE, *language.REFUSAL, language.ALTERNATIVE.replace("{keeper}", "")]
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate([PAD, EOS, UNKNOWN, USER, ASSISTANT, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
    )
    tokenizer.chat_template = CHAT
    return tokenizer
