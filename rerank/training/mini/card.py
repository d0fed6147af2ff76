"""The model card of `cmi-mini`, from a training report, so that no number in it is typed by hand."""

from collections.abc import Mapping
from typing import Any

from rerank.training.mini.card_sure import how_sure
from rerank.training.mini.options import TrainOptions

_GOALS = (
    ("pair accuracy, musicality", 0.92, "of two takes whose true musicality differs by 0.2, the better one is above"),
    ("pair accuracy, alignment", 0.88, "the same for true alignment"),
    (
        "best-of-n gain, combined",
        0.75,
        "(true value of the chosen - mean) / (true best - mean), averaged over captions, best of 10",
    ),
    ("lyrics, combined", 0.75, "the lyrics that are sung are above other lyrics"),
    ("reference, combined", 0.85, "the reference that was followed is above another one"),
    (
        "text, combined",
        0.90,
        "the right caption is above one with another mood, other instruments and no fitting tempo",
    ),
    ("damage, combined", 0.95, "audio is above the same audio damaged in ways that training never used"),
)

_TEMPLATE = """# Model card: cmi-mini

The small compositional reward model that comes with `rerank`: prompt text, lyrics and reference audio in, musicality
and alignment of a candidate out.

**It was trained on synthetic music only**, made by the built-in generator `synth`, whose truth is known. It ranks
candidates of `synth` well and notices damage in any audio, but it has never heard real music or the output of neural
generators. For real generators use `cmi-rm`, the published model.

## What it reaches

On captions, templates, lyric lines, seeds and damages that training never used; {prompts} captions with ten takes
each, and as many cases of each other measure. Lyrics, reference and text are judged on takes without faults, damage at
a severity of 0.5 to 1; `rerank/eval/agreement` says exactly how.

| measure | reached | goal | met | meaning |
| --- | --- | --- | --- | --- |
{rows}

All numbers are in `cmi-mini.json` beside this file; `rerank eval agreement` makes them again, and with `--calibrate` stores
what a gap means with the weights.

{how_sure}## How it was made

`{command}`:

{clips} clips of 10 seconds by `synth`, each also damaged once, and {sung_clips} whose prompts all have lyrics; prompts from
the training split of MusicCaps (Google, CC BY-SA 4.0), from templates and with lyrics of its own making. First
{tower_steps} steps in which the towers learn facts of sound and text; then, with the audio tower frozen, {lyrics_steps}
steps of lyrics, alone or beside a text; then, as in the paper, {preference_steps} steps of Bradley-Terry on noisy
preferences (label smoothing 0.2) and {truth_steps} steps of Bradley-Terry and tanh-scaled regression on the truth, with
modality dropout. Each of these takes {step_prompts} prompts with four candidates, right and wrong ones, and texts, lyrics
and references by themselves, and the text tower repeats its first lessons. Most lyrics are written anew in each step, in
other words with the same vowels, so that they cannot be learnt by heart, and beside their reward it is told in which
moments they are followed.

## Limits

- Its musicality knows ten faults of craft and the damages of training, not taste.
- Its alignment knows the words that `synth` follows: tempo, key, mood, genre, instruments, dynamics, recording
  quality, voice. Other wishes count for nothing.
- Where a measure above is not met, do not rely on it: 0.5 is chance for two of a kind.
- Rewards compare candidates of one prompt. Across prompts they mean little.

Licence of the weights: Apache-2.0.
"""


def model_card(options: TrainOptions, report: Mapping[str, Any], picture: str | None = None) -> str:
    """Return the card in Markdown.

    Args:
        options: of the training run.
        report: of `rerank.eval.agreement.report.evaluate`.
        picture: name of the reliability diagram, beside the card.
    """
    metrics = report["metrics"]
    rows = [
        f"| {name} | {value:.3f} | {goal:.2f} | {'yes' if value >= goal else '**no**'} | {meaning} |"
        for name, goal, meaning in _GOALS
        if (value := metrics.get(name)) is not None
    ]
    return _TEMPLATE.format(
        prompts=report["options"]["prompts"],
        rows="\n".join(rows),
        how_sure=how_sure(report, picture),
        command=_command(options),
        clips=f"{4 * options.shards * options.shard_prompts:,}",
        tower_steps=options.tower_steps,
        preference_steps=options.preference_steps,
        truth_steps=options.truth_steps,
        lyrics_steps=options.lyrics_steps,
        sung_clips=f"{4 * options.sung_shards * options.shard_prompts:,}",
        step_prompts=options.prompts,
    )


def _command(options: TrainOptions) -> str:
    """Return the command that trains with these options."""
    steps = (options.tower_steps, options.lyrics_steps, options.preference_steps, options.truth_steps)
    command = (
        f"rerank train mini DIR --seed {options.seed} --shards {options.shards} --steps {','.join(map(str, steps))}"
    )
    usual = TrainOptions().shard_prompts
    return command if options.shard_prompts == usual else f"{command} --shard-prompts {options.shard_prompts}"
