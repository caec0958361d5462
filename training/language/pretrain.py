"""Pretraining of the small Llama that the projector will speak to.

Every token of a document counts, the words of an answer more: they are few, and what the later stages need.
Documents are not cut or joined; batches hold documents of similar length. Measured by perplexity and by
the share of closed questions whose likeliest option is right, given the text of a report.

Letters: B documents, L tokens of the longest, O options of a question, V tokens of the vocabulary.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.config import LanguageModelConfig, ModelConfig
from core_model.errors import CohortError
from core_model.language.conversation import EOS, IGNORE, Turn, answer_spans, encode_turns
from training.settings import LanguageModelSettings

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

    from training.cohort.corpus import ReadingDocument

log = logging.getLogger(__name__)


def pretrain_language_model(
    texts: Sequence[str],
    tokenizer: Any,
    out: Path,
    *,
    settings: LanguageModelSettings | None = None,
    held_out: Sequence[ReadingDocument] = (),
    progress: Callable[[int, int], None] | None = None,
) -> LlamaForCausalLM:
    """Train a Llama from scratch on `texts` and save it, its tokenizer and its log in `out`.

    `texts` are whole documents (see `training.corpus`). With `held_out`, perplexity and reading accuracy on
    them are logged and written to `out/log.json`. `progress` is told steps done and steps in all. Raises
    CohortError if there is no text.
    """
    from transformers import set_seed

    settings = settings or LanguageModelSettings()
    if not texts:
        raise CohortError("there is no text to pretrain the language model on", where=out)
    set_seed(settings.seed)
    model = build_language_model(settings.model, tokenizer)
    documents = [encode_document(tokenizer, text, settings) for text in texts]
    trainer = _trainer(model, documents, tokenizer.pad_token_id, Path(out), settings)
    _report_to(trainer, progress)
    # Measured on CPU: the fused attention's backward pass takes half again as long as the plain one's.
    model.set_attn_implementation("eager")
    trainer.train()
    model.set_attn_implementation("sdpa")
    model.eval()
    record = {"settings": asdict(settings) | {"model": settings.model.model_dump()}, "documents": len(texts)}
    record["loss"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if held_out:
        record |= reading_scores(model, tokenizer, held_out, settings.max_length)
        log.info("language model: perplexity %(perplexity).2f, reading %(accuracy).3f", record)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (Path(out) / "log.json").write_text(json.dumps(record, indent=1))
    return model


def build_language_model(config: LanguageModelConfig, tokenizer: Any) -> LlamaForCausalLM:
    """A Llama with random weights for this tokenizer, of the dimensions the embedded model will have."""
    from transformers import LlamaForCausalLM

    from core_model.language.wsi_llava import llava_config

    whole = ModelConfig(language_model=config).for_tokenizer(tokenizer)
    dimensions: Any = llava_config(whole).text_config
    return LlamaForCausalLM(dimensions)


def encode_document(tokenizer: Any, text: str, settings: LanguageModelSettings) -> dict[str, list[Any]]:
    """Token ids of one document and the weight of each token as a target."""
    text = text if text.endswith(EOS) else text + EOS
    tokens = tokenizer(text, return_offsets_mapping=True)
    spans = answer_spans(text)
    weights = [
        settings.answer_weight if any(a <= start and stop <= b for a, b in spans) else 1.0
        for start, stop in tokens["offset_mapping"]
    ]
    return {
        "input_ids": tokens["input_ids"][: settings.max_length],
        "weights": weights[: settings.max_length],
    }


def reading_scores(
    model: LlamaForCausalLM, tokenizer: Any, readings: Sequence[ReadingDocument], max_length: int
) -> dict[str, float]:
    """Perplexity of the true answers, and the share of closed questions answered right.

    Each turn is asked on its own; the answer is the option with the largest summed log-likelihood.
    """
    right = question_count = tokens = 0
    total = 0.0
    for reading in readings:
        for turn in reading.turns:
            options = turn.options or (turn.answer,)
            sums, lengths = _option_likelihoods(model, tokenizer, reading.context, turn, options, max_length)
            truth = options.index(turn.answer)
            total -= sums[truth]
            tokens += lengths[truth]
            if turn.options:
                question_count += 1
                right += max(range(len(options)), key=sums.__getitem__) == truth
    return {
        "perplexity": math.exp(total / max(tokens, 1)),
        "accuracy": right / max(question_count, 1),
        "questions": float(question_count),
    }


def _option_likelihoods(
    model: LlamaForCausalLM,
    tokenizer: Any,
    context: str,
    turn: Turn,
    options: Sequence[str],
    max_length: int,
) -> tuple[list[float], list[int]]:
    """Summed log-likelihood and number of tokens of each option as the answer to `turn`."""
    import torch

    pairs = [
        encode_turns(tokenizer, [Turn(turn.question, option, turn.options)], 0, max_length, context=context)
        for option in options
    ]
    ids = _padded([pair[0] for pair in pairs], tokenizer.pad_token_id)  # (O, L)
    labels = _padded([pair[1] for pair in pairs], IGNORE)  # (O, L)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[:, :-1].float()  # (O, L-1, V)
    targets = labels[:, 1:]  # (O, L-1)
    log_likelihoods = (
        logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    )  # (O, L-1)
    is_answer = targets != IGNORE  # (O, L-1)
    return (log_likelihoods * is_answer).sum(1).tolist(), is_answer.sum(1).tolist()


def _padded(rows: Sequence[Sequence[Any]], value: Any) -> torch.Tensor:
    """Rows of unequal length as one tensor, filled up on the right."""
    import torch

    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def _trainer(
    model: LlamaForCausalLM,
    documents: list[dict[str, list[Any]]],
    pad: int,
    out: Path,
    settings: LanguageModelSettings,
) -> Any:
    """transformers' Trainer with a loss in which answers weigh more."""
    import torch
    from transformers import Trainer, TrainingArguments

    class WeightedTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # Padding is on the right and attention causal, so no token that counts ever sees it.
            logits = model(input_ids=inputs["input_ids"]).logits[:, :-1]  # (B, L-1, V)
            targets, weights = inputs["input_ids"][:, 1:], inputs["weights"][:, 1:]  # (B, L-1)
            losses = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), reduction="none"
            )
            return (losses * weights.flatten()).sum() / weights.sum()

    def collate(rows: list[dict[str, list[Any]]]) -> dict[str, torch.Tensor]:
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], pad),
            "weights": _padded([row["weights"] for row in rows], 0.0),
        }

    return WeightedTrainer(
        model=model,
        args=_arguments(out, settings, TrainingArguments),
        train_dataset=documents,
        data_collator=collate,
    )


def _report_to(trainer: Any, progress: Callable[[int, int], None] | None) -> None:
    """Tell `progress` of every step, instead of printing losses on stdout."""
    from transformers import PrinterCallback, TrainerCallback

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress is not None:
                progress(state.global_step, state.max_steps)

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Report())


def _arguments(out: Path, settings: LanguageModelSettings, make: Any) -> Any:
    """Settings as transformers' TrainingArguments; on the GPU where there is one."""
    import torch

    from core_model.devices import has_bf16

    cuda = torch.cuda.is_available()
    bf16 = has_bf16("cuda" if cuda else "cpu") if settings.bf16 is None else settings.bf16
    return make(
        output_dir=str(out),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(settings.warmup * settings.steps),
        weight_decay=settings.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=bf16,
        seed=settings.seed,
        use_cpu=not cuda,
        train_sampling_strategy="group_by_length",
        logging_steps=max(1, settings.steps // 50),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
