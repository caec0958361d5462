"""The model card: every figure in it was measured in the run that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_model.config import AlignmentConfig, ModelConfig


def model_card(config: ModelConfig, record: Mapping[str, Any]) -> str:
    """Markdown for MODEL_CARD.md from a configuration and the record of its training (see `steps`)."""
    return "\n".join(
        [
            f"# {config.name}",
            "",
            _purpose(record),
            "**For research and demonstration, not for diagnosis.**",
            "",
            *_parts(config),
            *_data(record),
            *_recipe(record),
            *_results(config, record),
            *_limits(config, record),
        ]
    )


def _purpose(record: Mapping[str, Any]) -> str:
    if _procedural(record):
        return "A small model that answers questions about whole-slide images of procedural, H&E-like tissue."
    return "A model that answers questions about whole-slide images."


def _procedural(record: Mapping[str, Any]) -> bool:
    """Whether every slide of its training was drawn by `giant phantom`."""
    slides = record["slides"]
    return bool(slides["with_truth"] == slides["train"] + slides["val"])


def _parts(config: ModelConfig) -> list[str]:
    tile, slide, text, lm = (
        config.tile_encoder,
        config.slide_encoder,
        config.alignment,
        config.language_model,
    )
    return [
        "## Parts",
        "",
        "| part | what |",
        "|---|---|",
        f"| tile encoder | {tile.class_name}, {tile.depth} layers x {tile.embed_dim}, {tile.tile_px} px"
        f" at {tile.mpp} µm/px ({tile.tile_px * tile.mpp:.0f} µm) |",
        f"| slide encoder | LongNetViT, {slide.depth} layers x {slide.embed_dim}, dilations"
        f" {', '.join(map(str, slide.dilated_ratio))}; {config.n_tokens} tokens per slide |",
        f"| text tower | {_text_tower(text)}, common space of {text.shared_dim} |",
        f"| language model | {lm.class_name}, {lm.depth} layers x {lm.embed_dim}, {lm.vocab_size} tokens |",
        "",
    ]


def _text_tower(text: AlignmentConfig) -> str:
    if text.text_config is not None:
        return f"{text.class_name}, pretrained"
    return f"BERT, {text.depth} layers x {text.embed_dim}"


def _data(record: Mapping[str, Any]) -> list[str]:
    slides = record["slides"]
    seeds = "".join(f", seed {seed}" for seed in record["phantom_seeds"])
    sentence = f"- {slides['train']} training and {slides['val']} validation slides"
    if slides["with_truth"]:
        sentence += (
            f", {slides['with_truth']} of them procedural (`giant phantom`{seeds}), with"
            " reports and questions made from their truth"
        )
    lines = ["## Data", "", f"{sentence}."]
    if record["real_tiles"]:
        lines.append(
            "- The tile encoder has also seen labelled photographs of real tissue, split by group;"
            " no other part has seen real tissue."
        )
        source = record["settings"].get("tiles_source")
        lines.append(
            f"- Real tiles: {source}" if source else "- Where the real tiles come from was not recorded."
        )
    return [*lines, ""]


def _recipe(record: Mapping[str, Any]) -> list[str]:
    settings, versions = record["settings"], record["versions"]
    lines = [
        "## Recipe",
        "",
        f"`giant train all --recipe {record['recipe']}`, seed {settings['seed']}; python"
        f" {versions['python']}, torch {versions['torch']}, transformers {versions['transformers']}.",
        "",
        "| step | steps | seconds | loss at first | at last |",
        "|---|---|---|---|---|",
    ]
    for name, stage in record["stages"].items():
        lines.append(
            f"| {name} | {stage['steps']} | {stage['seconds']:.0f} | {stage['loss_first']:.3f}"
            f" | {stage['loss_last']:.3f} |"
        )
    return [*lines, "", "Every number of the recipe is in `config.json` under `training`.", ""]


def _results(config: ModelConfig, record: Mapping[str, Any]) -> list[str]:
    lines = ["## Measured on the validation slides", "", *_figures(record)]
    retrieval = record["stages"].get("stage1", {}).get("figures", {}).get("retrieval")
    facts = [
        f"{part.replace('_', ' ')}: pretrained, {record[key]['pretrained']}"
        for part, key in (("tile_encoder", "tiles"), ("language_model", "language"))
        if "pretrained" in record[key]
    ]
    facts += [
        *(f"tile encoder: {name.replace('_', ' ')} {value:.3f}" for name, value in _numbers(record["tiles"]))
    ]
    facts += [
        f"language model, reading a report: {name} {value:.3f}"
        for name, value in _numbers(record["language"])
    ]
    if retrieval is not None:
        facts.append(f"text retrieves a fitting region first: {retrieval:.3f}")
    calibration = config.calibration
    facts.append(
        f"calibration: temperature {calibration.temperature:.2f}, weights of slide and regions"
        f" {calibration.slide_weight:.1f} and {calibration.region_weight:.1f},"
        f" abstains below {calibration.abstain_below:.2f}"
    )
    return [*lines, "", *(f"- {line}" for line in facts), ""]


def _figures(record: Mapping[str, Any]) -> list[str]:
    """The last evaluation: accuracy at closed questions, or the loss of answers."""
    figures, guessing = record["figures"], record["guessing"]
    if "closed" not in figures:
        return [f"Loss of the answers, nats per token: {figures['val_loss']:.3f}."]
    names = {"closed": "**all**"}
    return [
        f"{record['questions']} closed questions about whole slides, one look at each, by this checkpoint as"
        f" saved. At random {guessing['random']:.2f}, best constant answer per kind"
        f" {guessing['best_constant']:.2f}.",
        "",
        "| questions | right |",
        "|---|---|",
        *(f"| {names.get(name, name)} | {value:.3f} |" for name, value in figures.items()),
    ]


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in values.items() if isinstance(value, int | float)]


def _limits(config: ModelConfig, record: Mapping[str, Any]) -> list[str]:
    slide, surprise = config.familiarity.slide_threshold, config.familiarity.question_nll
    limits = [f"median tile distance above {slide:.2f}"] if slide is not None else []
    limits += [f"surprise above {surprise:.2f} nats per token"] if surprise is not None else []
    unlike = "The agent abstains where a slide or a question is unlike its training data"
    lines = ["## Limits", ""]
    if _procedural(record):
        lines.append("- It knows procedural tissue only. What it says of a real slide means nothing.")
        lines.append("- The validation slides come from the same generator as the training slides.")
    lines.append(
        f"- {unlike} ({', '.join(limits)})." if limits else "- It cannot tell what is unlike its data."
    )
    if "pretrained" not in record["language"]:
        lines.append("- It knows these words and no others: `words.txt`.")
    return [*lines, ""]
