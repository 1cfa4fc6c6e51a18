"""The recipe: one YAML file = one experiment, as a pydantic schema.

Only pydantic and YAML are imported here, so that `sacpo validate` answers at once. What a recipe's parts mean:

    name, seed          the run's folder and the root of every random number
    world               the synthetic preference world, where one is used
    base                the model and tokenizer to start from
    data                named sources of records
    sft                 optional supervised fine-tuning; its model is called "sft" (without it, "sft" is the base)
    steps               alignment steps: criterion, algorithm, dataset, strength, and the model to start from
    merge               pairs of models with a method and merge weights q
    prompts             named evaluation sets, each with a role
    evaluate            generation options, judges and the baseline
    constraints         bounds that the selected model must meet
    objective           what the selected model maximises under them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from sacpo.recipe.algorithms import AlgorithmName, AlgorithmOptions, algorithms_and_records
from sacpo.recipe.formats import KIND_OF_FORMAT, FormatName, RecordKind
from sacpo.recipe.llm import AskingSpec, BudgetSpec
from sacpo.recipe.metrics import BoundedMetric, Given, MaximisedMetric
from sacpo.recipe.published import Written, published
from sacpo.recipe.section import MANY, MOST, Count, Fraction, Name, Names, Positive, Section

SFT = "sft"
Layout = Literal["auto", "packed", "padded"]
LAYOUT = (
    "packed: prompts computed once, or stop; padded: one completion a row; auto: packed where it agrees, else padded"
)


class TokenizerSpec(Section):
    """A tokenizer built here: the world's words, or a byte-level BPE trained on data sources."""

    kind: Literal["world", "bpe"]
    vocab_size: int = Field(8000, ge=300, le=MANY, description="BPE only: number of tokens")
    datasets: tuple[str, ...] = Field((), description="BPE only: names of data sources whose texts train it")

    @model_validator(mode="after")
    def _used(self) -> TokenizerSpec:
        if self.kind == "world":
            self.unused(("vocab_size", "datasets"), "the world's tokenizer has the world's words")
        return self


class QuantizationSpec(Section):
    """The base in few bits, for LoRA on a small GPU (QLoRA); needs CUDA and the package bitsandbytes."""

    bits: Literal[4, 8] = 4
    type: Literal["nf4", "fp4"] = Field("nf4", description="4 bits only: the number type")
    double: bool = Field(True, description="4 bits only: quantise the scales too")
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="4 bits only: number type of the products"
    )

    @model_validator(mode="after")
    def _used(self) -> QuantizationSpec:
        if self.bits == 8:
            self.unused(("type", "double", "compute_dtype"), "it belongs to 4 bits")
        return self


class BaseSpec(Section):
    """The model to start from: a hub id or folder, or a configuration whose weights are drawn from the seed."""

    model: str | None = Field(None, description="hub id or folder of a standard Hugging Face checkpoint")
    revision: str | None = None
    config: dict[str, Any] | None = Field(None, description="AutoConfig keys with model_type: train from scratch")
    tokenizer: TokenizerSpec | str | None = Field(
        None, description="with a config: hub id, folder or a tokenizer to build"
    )
    template: str = Field("chat", description="'chat', 'paper', 'plain' or a text that contains {prompt}")
    special_tokens_in_text: bool | None = Field(
        None, description="read special tokens that texts spell as tokens, not as text; null: with template 'plain'"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps")
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    quantization: QuantizationSpec | None = Field(
        None, description="load it in few bits; all trainings of language models are then LoRA"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> BaseSpec:
        if (self.model is None) == (self.config is None):
            raise ValueError("give exactly one of 'model' and 'config'")
        if self.model is not None and self.tokenizer is not None:
            raise ValueError("a 'model' brings its own tokenizer: leave 'tokenizer' out")
        if self.config is not None and ("model_type" not in self.config or self.tokenizer is None):
            raise ValueError("a 'config' needs 'model_type' in it and a 'tokenizer' beside it")
        if self.config is not None:
            remote = () if isinstance(self.tokenizer, str) else ("trust_remote_code",)
            self.unused(("revision", *remote), "a model that is built from 'config' comes from no hub")
        return self

    @field_validator("template")
    @classmethod
    def _known_template(cls, value: str) -> str:
        if value not in ("chat", "paper", "plain") and "{prompt}" not in value:
            raise ValueError("allowed: 'chat', 'paper', 'plain', or a text that contains {prompt}")
        return value


class SourceSpec(Section):
    """Where records come from: a hub id, local files, or the world."""

    format: FormatName
    path: str | Names | None = Field(None, description="hub id, or local JSON, JSONL(.gz), CSV, Parquet")
    revision: str | None = Field(None, description="hub revision")
    split: str | None = Field(None, description="hub split; for the world: sft, pairs, tuning, report, ...")
    label: Literal["better", "safer"] | None = Field(None, description="PKU-SafeRLHF: which of its two labels")
    columns: dict[str, str] = Field({}, description="canonical column name: this file's column name")
    limit: int | None = Field(None, ge=1, le=MOST, description="keep this many records, drawn with the recipe's seed")
    kind: Literal["ordinary", "restricted", "borderline"] | None = Field(None, description="prompts: what they are")
    mix: dict[Literal["ordinary", "restricted", "borderline"], Fraction] | None = Field(
        None, description="world: share of each kind of task"
    )

    @model_validator(mode="after")
    def _origin(self) -> SourceSpec:
        if self.format == "world":
            if self.path is not None:
                raise ValueError("format 'world' takes no 'path'")
            if self.split is None or self.limit is None:
                raise ValueError("format 'world' needs 'split' and 'limit'")
        elif self.path is None or not all(path.strip() for path in self.paths):
            raise ValueError(f"format '{self.format}' needs a 'path'")
        if self.format == "world":
            self.unused(("revision", "label", "columns", "kind"), "the world's prompts say themselves what they are")
        else:
            self.unused(("mix",), "only the world can mix its tasks")
        if self.format == "xstest":
            self.unused(("kind",), "XSTest's rows say what they are")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The path or paths, as a tuple."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path


class DataSpec(SourceSpec):
    """A named source of training records."""

    as_: RecordKind | None = Field(
        None, alias="as", description="what the records are used as; the format's own kind by default"
    )
    soft_labels: Literal["keep", "harden"] = Field("keep", description="keep preference probabilities, or round them")
    ties: Literal["keep", "drop"] = Field("keep", description="pairs whose probability is exactly one half")
    holdout: Fraction = Field(0.0, description="share of the pairs' prompts held out for implicit-reward accuracy")

    @model_validator(mode="after")
    def _used(self) -> DataSpec:
        if self.holds not in ("pairs", None):
            self.unused(("soft_labels", "ties", "holdout"), f"it is about pairs, and this source gives {self.holds}")
        return self

    @property
    def holds(self) -> RecordKind | None:
        """What its records are; None where only its rows tell."""
        return self.as_ or KIND_OF_FORMAT[self.format]


class PromptsSpec(SourceSpec):
    """A named set of evaluation prompts."""

    role: Literal["tuning", "report", "certification"]
    unseen_tasks: bool = Field(False, description="world: tasks that no training prompt asks for")

    @model_validator(mode="after")
    def _used(self) -> PromptsSpec:
        if self.format != "world":
            self.unused(("unseen_tasks",), "only the world knows its tasks")
        return self


class TrainingSpec(Section):
    """Training options, under the names and with the meaning they have in `transformers.TrainingArguments`."""

    num_train_epochs: float | None = Field(None, gt=0, le=MANY)
    max_steps: int | None = Field(None, ge=-1, le=MOST, description="optimiser steps; -1: as many as the epochs have")
    per_device_train_batch_size: Count | None = None
    gradient_accumulation_steps: Count | None = None
    learning_rate: Positive | None = None
    lr_scheduler_type: str | None = None
    lr_scheduler_kwargs: dict[str, Any] | None = None
    warmup_steps: float | None = Field(None, ge=0, description="steps; a value below 1 is a share of all steps")
    weight_decay: float | None = Field(None, ge=0)
    adam_beta1: float | None = Field(None, ge=0, lt=1)
    adam_beta2: float | None = Field(None, ge=0, lt=1)
    adam_epsilon: float | None = Field(None, ge=0)
    max_grad_norm: float | None = Field(None, ge=0)
    optim: str | None = None
    optim_args: str | None = None
    bf16: bool | None = None
    fp16: bool | None = None
    tf32: bool | None = None
    gradient_checkpointing: bool | None = None
    gradient_checkpointing_kwargs: dict[str, Any] | None = None
    torch_compile: bool | None = None
    fsdp: str | list[str] | bool | None = None
    fsdp_config: dict[str, Any] | str | None = None
    deepspeed: dict[str, Any] | str | None = None
    ddp_find_unused_parameters: bool | None = None
    logging_steps: float | None = Field(None, gt=0)
    save_steps: float | None = Field(None, gt=0)
    save_total_limit: int | None = Field(None, ge=1)
    dataloader_num_workers: int | None = Field(None, ge=0, le=1024)
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] | None = None
    report_to: str | list[str] | None = None
    run_name: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**32)
    full_determinism: bool | None = None

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("0 steps train nothing: give a number of steps, or -1 for whole epochs")
        return value

    def options(self) -> dict[str, Any]:
        """Return the options that were given, and only those."""
        return self.model_dump(exclude_none=True)


class LoraSpec(Section):
    """LoRA options under peft's names; a step with these trains an adapter instead of all weights."""

    r: Count = 16
    lora_alpha: float = Field(32, gt=0)
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    modules_to_save: list[str] | None = None

    @property
    def plain(self) -> bool:
        """Whether the change of the weights is a scaled product of two factors and nothing else."""
        return not self.use_dora and self.bias == "none" and not self.modules_to_save


class SftSpec(Section):
    """Supervised fine-tuning of the base on demonstrations."""

    dataset: str | Names
    max_length: int = Field(512, ge=2, le=MOST)
    too_long: Literal["drop", "truncate"] = Field("truncate", description="records longer than max_length")
    layout: Layout = Field("auto", description=LAYOUT)
    training: TrainingSpec = TrainingSpec()
    lora: LoraSpec | None = None


class SampledSpec(Section):
    """Pairs sampled from models and labelled by a judge that gives scores.

    The label is Bradley-Terry on the judge's score: p = sigmoid(score_scale * (s1 - s2)).
    """

    prompts: str = Field(description="a data source used as prompts")
    sample_from: dict[Literal["sft", "reference"], Fraction] = Field(
        {"sft": 1.0}, description="share of the prompts answered by the SFT model and by the step's own reference"
    )
    judge: str = Field(description="a judge of 'evaluate' that gives scores")
    labels: Literal["soft", "sampled", "hard"] = Field(
        "sampled", description="the probability itself, one draw from it, or the more probable answer"
    )
    score_scale: Positive = 1.0
    ties: Literal["keep", "drop"] = Field("drop", description="pairs with equal scores")
    temperature: Positive = 1.0
    max_new_tokens: Count = 128

    @field_validator("sample_from")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        if abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError("the shares must add up to 1")
        return value

    @model_validator(mode="after")
    def _used(self) -> SampledSpec:
        if self.labels == "hard":
            self.unused(("score_scale",), "hard labels take the better score, however much better it is")
        return self


class StepStart(Section):
    """What a step trains, on what, from where and how strongly."""

    name: Name
    criterion: Name
    algorithm: AlgorithmName = Field("dpo", description=algorithms_and_records())
    dataset: str | Names | SampledSpec
    beta: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)]
    from_: str | None = Field(None, alias="from", description="model to start from; the step before by default")


class StepSpec(AlgorithmOptions, StepStart):
    """One alignment step: its reference is the model it starts from.

    `beta` is the step's own KL strength. For a constraint criterion it is the paper's beta/lambda, wherever the step
    stands in the order (eq. 11). A list is a sweep: one model a value, named `NAME@VALUE`.
    """

    max_length: int = Field(512, ge=2, le=MOST, description="tokens of prompt and completion together")
    too_long: Literal["drop", "truncate"] = Field("truncate", description="records longer than max_length")
    layout: Layout = Field("auto", description=LAYOUT)
    training: TrainingSpec = TrainingSpec()
    lora: LoraSpec | None = None

    @model_validator(mode="after")
    def _own_options(self) -> StepSpec:
        self.refuse_options_of_others(self.algorithm)
        return self

    @property
    def betas(self) -> tuple[float, ...]:
        """Every strength of the sweep, in the recipe's order."""
        return self.beta if isinstance(self.beta, tuple) else (self.beta,)

    @property
    def swept(self) -> bool:
        """Whether the step has more than one strength."""
        return isinstance(self.beta, tuple)


class MergeSpec(Section):
    """Merged models of two models, one for each q; q is always the weight of the later model.

    linear: (1 - q) A + q B. task-vectors: A + q * scale * (B - base), the unnormalised control. token-level: logits
    (1 - q) l_A + q l_B at decoding time (DeRa), no merged weights.
    """

    name: Name
    method: Literal["linear", "task-vectors", "token-level"] = "linear"
    models: tuple[str, str]
    q: Fraction | Annotated[tuple[Fraction, ...], Field(min_length=1)]
    scale: Positive = Field(1.0, description="task-vectors only")

    @field_validator("models", mode="before")
    @classmethod
    def _two(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and (len(value) != 2 or value[0] == value[1]):
            raise ValueError("a merge is between two models, the earlier and the later: models: [EARLIER, LATER]")
        return value

    @model_validator(mode="after")
    def _scaled(self) -> MergeSpec:
        if self.method != "task-vectors" and self.scale != 1:
            raise ValueError(f"'scale' is for method 'task-vectors': '{self.method}' would ignore it")
        return self

    @property
    def qs(self) -> tuple[float, ...]:
        """Every merge weight, in the recipe's order."""
        return self.q if isinstance(self.q, tuple) else (self.q,)


class GenerationSpec(Section):
    """How answers are decoded; the defaults are the paper's (greedy, 512 new tokens).

    `engine: auto` takes vLLM where it is installed and the device is a CUDA GPU.
    """

    engine: Literal["auto", "transformers", "vllm"] = "auto"
    max_new_tokens: Count = 512
    do_sample: bool = False
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Count = 16

    @model_validator(mode="after")
    def _used(self) -> GenerationSpec:
        if not self.do_sample:
            self.unused(("temperature", "top_p"), "greedy decoding samples nothing (do_sample: true does)")
        return self


TRAINED = {"training", "too_long"}
"""Keys of a reward model that is trained here."""

JudgeKind = Literal["oracle", "reward-model", "refusal", "llm"]


class JudgeSpec(AskingSpec):
    """A judge of one criterion.

    oracle: the world's own score. reward-model: a sequence-classification model whose logit (times `sign`) is the
    score; `model` is a hub id or folder, or `dataset` names pairs to train one from the SFT model. refusal: finds
    refusals in the text. llm: language models behind endpoints (`panel`), by a rubric. A criterion with several of
    them is a panel: a prompt's value is the mean over the judges, and it counts only when every judge was read in
    every order; an answer has a label (unsafe, refusal) when at least half of the judges give it. Their verdicts are
    kept in the run's folder, so that no answer is paid for twice. Two equal answers are a tie and nobody is asked.
    """

    kind: JudgeKind
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = Field(
        False, description="run code that comes with this judge's model; base's is not asked"
    )
    dataset: str | Names | None = None
    training: TrainingSpec = TrainingSpec()
    max_length: int = Field(512, ge=2, le=MOST)
    too_long: Literal["drop", "truncate"] = Field("truncate", description="training pairs longer than max_length")
    sign: Literal[1, -1] = Field(1, description="-1 for a cost model, whose logit is higher for worse answers")
    unsafe_below: float | None = Field(None, description="answers with a lower score are labelled unsafe")
    rubric: str | None = Field(None, description="llm: a built-in rubric or a file; the criterion's name by default")
    prompts: Names | None = Field(None, description="prompt sets that it judges; all by default")
    batch_size: Count = 16

    @model_validator(mode="after")
    def _origin(self) -> JudgeSpec:
        if (self.kind == "reward-model") != ((self.model is None) != (self.dataset is None)):
            raise ValueError("kind 'reward-model' needs exactly one of 'model' and 'dataset'; other kinds take neither")
        if (self.kind == "llm") != bool(self.judges) or (self.kind != "llm" and self.rubric is not None):
            raise ValueError("kind 'llm' needs a 'panel', as in panel: {model: NAME}; other kinds take no such keys")
        used = {*JUDGES[self.kind].options, "kind", "prompts"} - (set() if self.dataset is not None else TRAINED)
        used -= {"revision", "trust_remote_code"} if self.dataset is not None else set()
        by = f"a judge of kind '{self.kind}'" + (" with a 'model'" if self.model is not None else "")
        self.unused([name for name in type(self).model_fields if name not in used], f"{by} does not use it")
        return self

    def gives(self, criterion: str) -> set[Given]:
        """Return what it may say of answers as the judge of a criterion."""
        return JUDGES[self.kind].gives(criterion, self)


def _oracle(criterion: str, spec: JudgeSpec) -> set[Given]:
    if criterion == "refusal":
        return {"refusals"}
    return {"scores", "comparisons", "unsafe"} if criterion == "harmlessness" else {"scores", "comparisons"}


def _reward_model(criterion: str, spec: JudgeSpec) -> set[Given]:
    return {"scores", "comparisons"} if spec.unsafe_below is None else {"scores", "comparisons", "unsafe"}


@dataclass(frozen=True)
class JudgeFacts:
    """What a recipe knows of a kind of judge.

    Attributes:
        gives: What the judge of a criterion may say of answers; of language models, it is the rubric that tells.
        options: The keys of `JudgeSpec` that it uses, beside `kind` and `prompts`; others must be left out.
    """

    gives: Callable[[str, JudgeSpec], set[Given]]
    options: tuple[str, ...] = ()


SCORER = ("model", "revision", "trust_remote_code", "dataset", "max_length", "sign", "unsafe_below", "batch_size")
JUDGES: dict[JudgeKind, JudgeFacts] = {
    "oracle": JudgeFacts(_oracle),
    "reward-model": JudgeFacts(_reward_model, (*SCORER, *sorted(TRAINED))),
    "refusal": JudgeFacts(lambda *_: {"refusals"}),
    "llm": JudgeFacts(lambda *_: {"comparisons", "unsafe", "refusals"}, ("rubric", *AskingSpec.model_fields)),
}
"""Every kind of judge; how one judges is a module of the same name in `sacpo.judging.kinds`."""


class EvaluateSpec(Section):
    """Generation, judges (one a criterion) and the baseline that answers are compared with."""

    baseline: str = SFT
    generation: GenerationSpec = GenerationSpec()
    judges: dict[Name, JudgeSpec] = Field({}, description="criterion: judge")
    kl_prompts: int = Field(64, ge=0, le=MANY, description="prompts of a set on which KL from SFT is sampled; 0: none")
    models: Names | None = Field(None, description="models to evaluate; all by default")
    budget: BudgetSpec = Field(BudgetSpec(), description="limits on what LLM judges may use in one command")


class ConstraintSpec(Section):
    """A bound on a rate or mean of the selected model, checked on tuning prompts."""

    metric: BoundedMetric
    prompts: str
    criterion: str | None = Field(None, description="the judge of mean_score and win_rate; other metrics take none")
    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> ConstraintSpec:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of 'at_most' and 'at_least'")
        if self.metric not in ("win_rate", "mean_score"):
            self.unused(("criterion",), f"'{self.metric}' is of all judges together, or of none")
        return self


class ObjectiveSpec(Section):
    """What the selected model maximises."""

    metric: MaximisedMetric = "win_rate"
    criterion: str
    prompts: str


class WorldSpec(Section):
    """The world's size; every part of it follows from its seed."""

    seed: int = 0
    ordinary: int = Field(60, ge=1, le=MANY, description="tasks of this kind")
    restricted: int = Field(40, ge=1, le=MANY)
    borderline: int = Field(20, ge=1, le=MANY)
    sft_compliance: Fraction = Field(0.62, description="share of restricted tasks that demonstrations comply with")


class TheorySpec(Section):
    """Estimates of the optimum pi* from SFT samples, where rewards are known (the world)."""

    answers: int = Field(64, ge=2, le=MANY, description="samples a prompt")
    prompts: str = Field(description="the prompt set")
    max_prompts: Count = 200
    beta: Positive = Field(description="the reward's strength, of criterion `reward`")
    reward: str = "helpfulness"
    safety: str = "harmlessness"
    target: Positive = Field(description="beta/lambda of the common target that every model is compared with")


class ReportSpec(Section):
    """What the report shows."""

    title: str | None = None
    x: str = Field("helpfulness", description="criterion on the horizontal axis")
    y: str = Field("harmlessness", description="criterion on the vertical axis")
    prompts: dict[str, str] = Field(
        {}, description="metric, such as unsafe_rate or win_rate/CRITERION: the report set that headlines read it from"
    )
    max_answers: int = Field(100, ge=0, le=MANY, description="prompts whose answers are shown side by side")


class Recipe(Section):
    """One experiment, from data to report."""

    name: Name
    seed: int = 0
    world: WorldSpec | None = None
    base: BaseSpec
    data: dict[Name, DataSpec] = Field({})
    allow_shared_prompts: bool = Field(
        False, description="accept prompts that training and evaluation, or selection and report, share"
    )
    sft: SftSpec | None = None
    training: TrainingSpec = Field(TrainingSpec(), description="defaults for sft and every step")
    steps: tuple[StepSpec, ...] = ()
    merge: tuple[MergeSpec, ...] = ()
    prompts: dict[Name, PromptsSpec] = Field({})
    evaluate: EvaluateSpec = EvaluateSpec()
    constraints: tuple[ConstraintSpec, ...] = ()
    objective: ObjectiveSpec | None = None
    theory: TheorySpec | None = None
    report: ReportSpec = ReportSpec()
    _written: Written = PrivateAttr(default_factory=Written)

    def note(self, written: Written) -> None:
        """Note how the recipe was written before its environment variables got their values."""
        self._written = written

    def written(self) -> dict[str, Any]:
        """Return the recipe as plain data that may be published: environment variables by their names."""
        found: dict[str, Any] = self._written.restored(self.model_dump(mode="json", by_alias=True))
        return found

    def hidden(self, data: Any) -> Any:
        """Return data that were made from the recipe with environment variables by their names."""
        return self._written.hidden(data)

    def published(self) -> list[str]:
        """Return what the user should know of what a run publishes."""
        return published(self.written(), self._written)
