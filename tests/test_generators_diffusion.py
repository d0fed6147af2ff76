"""Generators through diffusers: tiny pipelines with random weights, saved and then loaded as published ones are."""

import fnmatch
import functools
import importlib
import importlib.util
import itertools
import json
import logging
import math
import shutil
import string
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rerank import registry
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, MissingDependency, WeightsError
from rerank.formats.waveform import Waveform
from rerank.generators.ace_step import AceStep
from rerank.generators.audioldm2 import AudioLdm2
from rerank.generators.diffusion import Diffusion
from rerank.generators.dtypes import resolve_dtype
from rerank.generators.stable_audio import StableAudio3, StableAudioOpen
from rerank.models import hub
from rerank.models.weights import say_licence
from rerank.protocols import Progress
from rerank.testing import check_generator

RATE = 8_000
STEPS = 2

# untyped libraries
new: Any = diffusers
old: Any = transformers


def t5_tokenizer(length: int) -> Any:
    letters = [(letter, -3.0) for letter in string.printable if not letter.isspace()]
    start = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return old.T5Tokenizer(vocab=start + letters, extra_ids=0, model_max_length=length)


def letters_tokenizer(kind: str, *start: str, **options: Any) -> Any:
    pieces = [*start, *(letter for letter in string.printable if not letter.isspace())]
    return getattr(old, kind)(vocab={piece: place for place, piece in enumerate(pieces)}, merges=[], **options)


def t5() -> Any:
    return old.T5EncoderModel(old.T5Config(vocab_size=110, d_model=8, d_ff=16, d_kv=8, num_heads=2, num_layers=1))


def oobleck(*ratios: int) -> Any:
    return new.AutoencoderOobleck(
        encoder_hidden_size=8,  # mean and scale of 4
        downsampling_ratios=list(ratios),
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=2,
        channel_multiples=[1, 2],
        sampling_rate=RATE,
    )


def stable_audio_open() -> Any:
    return new.StableAudioPipeline(
        vae=oobleck(4, 8),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(48),
        projection_model=new.StableAudioProjectionModel(
            text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=512
        ),
        transformer=new.StableAudioDiTModel(
            sample_size=600,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            num_key_value_attention_heads=2,
            out_channels=4,
            cross_attention_dim=8,
            time_proj_dim=8,
            global_states_input_dim=16,
            cross_attention_input_dim=8,
        ),
        scheduler=new.CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    )


def stable_audio_3(encoder_channels: int = 8) -> Any:
    module = old.T5GemmaModuleConfig(
        vocab_size=110,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=64,
        layer_types=["full_attention"],
    ).to_dict()
    return new.StableAudio3Pipeline(
        vae=new.AutoencoderSAME(
            audio_channels=2,
            patch_size=16,
            encoder_channels=encoder_channels,
            encoder_c_mults=(2,),
            encoder_strides=(4,),
            encoder_transformer_depths=(1,),
            latent_dim=8,
            dim_heads=4,
            ff_mult=2,
            sampling_rate=RATE,
        ),
        text_encoder=old.T5GemmaEncoderModel(
            old.T5GemmaConfig(encoder=module, decoder=module, is_encoder_decoder=False)
        ),
        tokenizer=letters_tokenizer("GemmaTokenizer", "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"),
        duration_embedder=new.StableAudio3DurationEmbedder(output_dim=16, fourier_dim=16, max_val=4.0),
        transformer=new.StableAudio3DiTModel(
            io_channels=8,
            patch_size=1,
            embed_dim=16,
            depth=1,
            num_heads=2,
            cond_token_dim=16,
            global_cond_dim=16,
            local_add_cond_dim=9,
            timestep_features_dim=16,
            ff_mult=2,
            num_memory_tokens=3,
        ),
        scheduler=new.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0, stochastic_sampling=True),
    )


def ace_step(turbo: bool = True) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    return new.AceStepPipeline(
        vae=oobleck(16, 20),
        text_encoder=old.Qwen3Model(
            old.Qwen3Config(**sizes, num_hidden_layers=1, head_dim=8, vocab_size=110, max_position_embeddings=2048)
        ),
        tokenizer=letters_tokenizer("Qwen2Tokenizer", "<|endoftext|>", "Ġ", "Ċ"),
        transformer=new.AceStepTransformer1DModel(
            **sizes,
            num_hidden_layers=1,
            head_dim=8,
            in_channels=12,
            audio_acoustic_hidden_dim=4,
            patch_size=2,
            sliding_window=16,
            is_turbo=turbo,
        ),
        condition_encoder=new.AceStepConditionEncoder(
            **sizes,
            text_hidden_dim=16,
            timbre_hidden_dim=4,
            num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1,
            head_dim=8,
            sliding_window=16,
        ),
        scheduler=new.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


def audioldm2() -> Any:
    clap = old.ClapConfig(
        text_config={
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
            "vocab_size": 110,
            "projection_dim": 8,
            "max_position_embeddings": 80,
        },
        audio_config={
            "spec_size": 8,
            "window_size": 4,
            "num_mel_bins": 8,
            "intermediate_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [1, 1],
            "num_hidden_layers": 1,
            "hidden_size": 32,
            "patch_embeds_hidden_size": 16,
            "projection_dim": 8,
            "patch_size": 2,
            "patch_stride": 2,
            "patch_embed_input_channels": 4,
        },
        projection_dim=8,
    )
    language = old.GPT2Config(
        n_embd=16, n_head=2, n_layer=1, vocab_size=110, n_positions=99, bos_token_id=0, eos_token_id=0
    )
    language.max_new_tokens = 8
    return new.AudioLDM2Pipeline(
        vae=new.AutoencoderKL(
            block_out_channels=[8, 16],
            in_channels=1,
            out_channels=1,
            norm_num_groups=8,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
        ),
        text_encoder=old.ClapModel(clap),
        text_encoder_2=t5(),
        tokenizer=letters_tokenizer(
            "RobertaTokenizer", "<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", model_max_length=64
        ),
        tokenizer_2=t5_tokenizer(48),
        feature_extractor=old.ClapFeatureExtractor(feature_size=8, hop_length=7900),
        language_model=old.GPT2Model(language),  # as the published index has it
        projection_model=new.AudioLDM2ProjectionModel(text_encoder_dim=8, text_encoder_1_dim=8, langauge_model_dim=16),
        unet=new.AudioLDM2UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=203,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=((None, 16, 8), (None, 16, 8)),
            attention_head_dim=4,
        ),
        scheduler=new.DDIMScheduler(
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        vocoder=old.SpeechT5HifiGan(
            old.SpeechT5HifiGanConfig(
                model_in_dim=8,
                sampling_rate=RATE,
                upsample_initial_channel=8,
                upsample_rates=[8, 10],
                upsample_kernel_sizes=[16, 20],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1, 3]],
                normalize_before=False,
            )
        ),
    )


def saved(folder: Path, make: Callable[[], Any]) -> Path:
    """Save a pipeline with random weights: those that training starts from are often 0 where it matters."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm", FutureWarning)
        pipe = make()
    modules = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    for weight in itertools.chain(*(module.parameters() for module in modules)):
        if weight.ndim > 1:
            nn.init.normal_(weight, 0, 1 / math.sqrt(weight[0].numel()))
    if hasattr(pipe, "condition_encoder"):
        nn.init.normal_(pipe.condition_encoder.silence_latent)
    pipe.save_pretrained(folder)
    return folder


KINDS: dict[str, tuple[type[Any], Callable[[], Any], float]] = {
    "stable-audio-open-1.0": (StableAudioOpen, stable_audio_open, 2.0),
    "stable-audio-3": (StableAudio3, stable_audio_3, 2.0),
    "ace-step": (AceStep, ace_step, 10.0),
    "audioldm2": (AudioLdm2, audioldm2, 2.0),
}
GUIDED = ["stable-audio-open-1.0", "stable-audio-3", "audioldm2"]

Load = Callable[..., Diffusion]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pipelines")
    return {name: saved(place / name, make) for name, (_, make, _) in KINDS.items()}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> Load:
    @functools.cache  # so that a test must leave no hook behind
    def load(name: str, **options: Any) -> Diffusion:
        made: Diffusion = KINDS[name][0](path=folders[name], device="cpu", **{"steps": STEPS, **options})
        return made

    return load


def sound(
    generator: Diffusion,
    seeds: Sequence[int] = (5,),
    prompt: Prompt | str = "slow piano",
    duration: float | None = None,
) -> list[Waveform]:
    whole = Prompt.of(prompt)
    duration = duration or KINDS[generator.info.name][2]
    waveforms = []
    for candidate in generator.generate(whole, seeds, duration):
        assert candidate.audio is not None
        waveforms.append(candidate.audio.waveform)
    return waveforms


def differ(one: Waveform, other: Waveform) -> bool:
    return float(np.abs(one - other).max()) > 1e-3


def backbone(generator: Diffusion) -> nn.Module:
    part: nn.Module = getattr(generator._pipe, "transformer", None) or generator._pipe.unet
    return part


@pytest.mark.parametrize("name", KINDS)
def test_keeps_the_promises_of_a_generator(name: str, loaded: Load) -> None:
    check_generator(loaded(name, batch_size=2))


@pytest.mark.parametrize("name", KINDS)
def test_a_candidate_does_not_depend_on_its_batch(name: str, loaded: Load) -> None:
    together = sound(loaded(name, batch_size=3), seeds=(3, 2**63 - 5, 7))
    apart = sound(loaded(name, batch_size=1), seeds=(2**63 - 5, 7))
    np.testing.assert_allclose(together[1:], apart, atol=1e-4)
    assert differ(together[0], together[1]) and differ(together[1], together[2])


@pytest.mark.parametrize("name", KINDS)
def test_gives_what_the_pipeline_gives_in_its_order(
    name: str, folders: dict[str, Path], loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new.AudioLDM2Pipeline, "score_waveforms", None)  # ranking would call it
    kind: dict[str, tuple[Any, dict[str, Any]]] = {
        "stable-audio-open-1.0": (new.StableAudioPipeline, {"audio_end_in_s": 2.0}),
        "stable-audio-3": (new.StableAudio3Pipeline, {"duration": 2.0}),
        "ace-step": (
            new.AceStepPipeline,
            {"audio_duration": 10.0, "lyrics": ["[Instrumental]"] * 2, "guidance_scale": 1.0},
        ),
        "audioldm2": (new.AudioLDM2Pipeline, {"audio_length_in_s": 2.0}),
    }
    pipeline, options = kind[name]
    generator = loaded(name)
    extra = {"language_model": generator._pipe.language_model} if name == "audioldm2" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = pipeline.from_pretrained(folders[name], **extra)
        made = pipe(
            ["slow piano"] * 2,
            num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(seed) for seed in (4, 9)],
            **options,
        ).audios
    expected = torch.as_tensor(made).reshape(2, generator.info.channels, -1).numpy()
    for waveform, theirs in zip(sound(generator, seeds=(4, 9)), expected, strict=True):
        np.testing.assert_allclose(waveform, theirs / max(1.0, np.abs(theirs).max()), atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_runs_out_of_memory_and_makes_the_same_in_halves(name: str, loaded: Load) -> None:
    expected = sound(loaded(name, batch_size=4), seeds=range(4))
    generator = loaded(name, batch_size=4)
    rows = 2 * (2 if generator._guidance > 1 else 1)  # of two candidates

    def need(module: nn.Module, args: Sequence[Tensor], kwargs: dict[str, Any]) -> None:
        latents = args[0] if args else kwargs["hidden_states"]
        if len(latents) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with backbone(generator).register_forward_pre_hook(need, with_kwargs=True):
        np.testing.assert_allclose(sound(generator, seeds=range(4)), expected, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_failure_costs_one_candidate(name: str, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = loaded(name, batch_size=4)
    expected, sample = sound(generator, seeds=range(4)), generator._sample

    def fail(request: Any, generators: list[torch.Generator], on_step: Any) -> Any:
        if any(one.initial_seed() == 2 for one in generators):
            raise RuntimeError("no ideas")
        return sample(request, generators, on_step)

    monkeypatch.setattr(generator, "_sample", fail)
    made = generator.generate(Prompt("slow piano"), range(4), KINDS[name][2])
    for waveform in expected[:2]:
        audio = next(made).audio
        assert audio is not None and audio.waveform.base is None  # not a part of its batch
        np.testing.assert_allclose(audio.waveform, waveform, atol=1e-4)
    with pytest.raises(RuntimeError, match="no ideas"):
        next(made)
    np.testing.assert_allclose(sound(generator, seeds=[3]), expected[3:], atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_is_cut_to_the_sample(name: str, loaded: Load) -> None:
    generator = loaded(name)
    longest = min(generator.info.max_duration, 20.0)
    base = KINDS[name][2]
    # divided by the rate and multiplied by it, 16002 samples are a little less, and so are the 32480 of 4.06 s
    for duration in (base, base + 2 / RATE, base + 1 / 3, base + 0.0101, generator.info.min_duration, longest):
        (waveform,) = sound(generator, duration=duration)
        assert waveform.shape == (generator.info.channels, round(duration * RATE)), duration


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("stable-audio-open-1.0", 2.39), ("stable-audio-3", 4.0), ("ace-step", 600.0), ("audioldm2", 4.06)],
)
def test_knows_its_longest_duration(name: str, seconds: float, loaded: Load) -> None:
    assert loaded(name).info.max_duration == pytest.approx(seconds)


@pytest.mark.parametrize("name", KINDS)
def test_follows_the_text(name: str, loaded: Load) -> None:
    generator = loaded(name)
    assert differ(sound(generator, prompt="slow piano")[0], sound(generator, prompt="fast ska")[0])


@pytest.mark.parametrize("name", GUIDED)
def test_a_negative_prompt_has_an_effect(name: str, loaded: Load) -> None:
    plain = sound(loaded(name, guidance=3.0))[0]
    assert differ(plain, sound(loaded(name, guidance=3.0, negative_prompt="noise"))[0])
    assert differ(plain, sound(loaded(name, guidance=5.0))[0])


@pytest.mark.parametrize("name", GUIDED)
def test_a_negative_prompt_without_effect_is_refused(name: str, loaded: Load) -> None:
    with pytest.raises(InvalidInput, match="no effect without guidance"):
        loaded(name, guidance=1.0, negative_prompt="noise")


def test_ace_step_follows_lyrics_and_reference(loaded: Load) -> None:
    generator = loaded("ace-step")
    noise = np.random.default_rng(0).standard_normal((2, 3 * RATE)).astype(np.float32)
    reference = Audio(noise, RATE)
    plain = sound(generator)[0]
    others = [
        Prompt("slow piano", "la la la"),
        Prompt("slow piano", "ne ne ne"),
        Prompt("slow piano", reference=reference),
        Prompt("slow piano", reference=Audio(noise[:1, ::2].copy(), 16_000)),
        Prompt(lyrics="la la la"),
        Prompt(reference=reference),
    ]
    made = [plain, *(sound(generator, prompt=prompt)[0] for prompt in others)]
    assert all(differ(one, other) for one, other in itertools.combinations(made, 2))


def test_ace_step_hears_the_same_reference_in_every_batch_and_leaves_the_global_stream_alone(loaded: Load) -> None:
    tone = np.sin(np.arange(31 * 2 * RATE))[None].repeat(3, axis=0).astype(np.float32)
    prompt = Prompt("slow piano", reference=Audio(tone, 2 * RATE))
    three, one = loaded("ace-step", batch_size=3), loaded("ace-step", batch_size=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    together = sound(three, (1, 2, 3), prompt)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    np.testing.assert_allclose(sound(one, (1, 2, 3), prompt), together, atol=1e-5)


def test_ace_step_base_is_guided_and_turbo_is_not(loaded: Load, tmp_path: Path) -> None:
    folder = saved(tmp_path, lambda: ace_step(turbo=False))
    plain, guided = (AceStep(path=folder, device="cpu", steps=STEPS, guidance=guidance) for guidance in (1.0, None))
    assert differ(sound(plain)[0], sound(guided)[0])
    assert AceStep(path=folder, device="cpu")._steps == 50 and loaded("ace-step", steps=None)._steps == 8
    with pytest.raises(InvalidInput, match="no effect on a turbo model"):
        loaded("ace-step", guidance=7.0)


@pytest.mark.parametrize("name", KINDS)
def test_stops_within_a_step(name: str, loaded: Load) -> None:
    generator = loaded(name, steps=8)
    calls: list[None] = []

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with backbone(generator).register_forward_hook(lambda *_: calls.append(None)), pytest.raises(KeyboardInterrupt):
        list(generator.generate(Prompt("piano"), (1, 2), KINDS[name][2], on_progress=stop))
    assert len(calls) == 1
    assert len(sound(generator)) == 1  # it goes on as if nothing had been


@pytest.mark.parametrize("name", KINDS)
def test_reports_every_step(name: str, loaded: Load) -> None:
    reports: list[Progress] = []
    generator = loaded(name, batch_size=1)
    list(generator.generate(Prompt("piano"), (1, 2), KINDS[name][2], on_progress=reports.append))
    shares = [report.done / report.total for report in reports]
    assert shares == pytest.approx([step / 6 for step in range(1, 7)], abs=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_draws_nothing_on_standard_error(
    name: str, folders: dict[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("rerank"), "disabled", True)
    sound(KINDS[name][0](path=folders[name], device="cpu", steps=STEPS))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", KINDS)
def test_says_what_it_leaves_out_of_a_long_text(name: str, loaded: Load, caplog: pytest.LogCaptureFixture) -> None:
    generator = loaded(name)
    caplog.clear()  # the licence, if nothing was loaded before
    text = "abcdefgh" * 60
    with caplog.at_level(logging.WARNING):
        made = sound(generator, prompt=text)[0]
    (message,) = [record.message for record in caplog.records]
    left = int(message.split("last ")[1].split()[0])
    assert 0 < left < len(text) and f"{text[-left:]!r:.60}" in message and "text" in message
    kept = text[:-left]
    caplog.clear()
    np.testing.assert_array_equal(sound(generator, prompt=kept)[0], made)
    assert not caplog.records
    sound(generator, prompt=text[: len(kept) + 1])
    assert len(caplog.records) == 1


def test_says_what_it_leaves_out_of_long_lyrics(loaded: Load, caplog: pytest.LogCaptureFixture) -> None:
    generator = loaded("ace-step")
    caplog.clear()
    sound(generator, prompt=Prompt("piano", "la" * 1000))
    assert not caplog.records
    sound(generator, prompt=Prompt("piano", "la" * 1500))
    assert "no more of the lyrics" in caplog.records[0].message


def test_says_that_the_negative_prompt_is_cut(loaded: Load, caplog: pytest.LogCaptureFixture) -> None:
    fitting, longer = (loaded("audioldm2", negative_prompt=text) for text in ("noise", "a longer one"))
    caplog.clear()
    sound(fitting, prompt="a longer prompt")
    assert not caplog.records
    sound(longer, prompt="piano")
    assert "beginning of a negative prompt" in caplog.messages[-1]
    loaded("stable-audio-open-1.0", negative_prompt="n" * 99)
    assert "no more of the negative prompt" in caplog.messages[-1]


def test_what_goes_beyond_full_scale_is_scaled_and_said(loaded: Load, caplog: pytest.LogCaptureFixture) -> None:
    generator = loaded("stable-audio-open-1.0")
    gain = 1e-3
    hook = generator._pipe.vae.decoder.register_forward_hook(lambda module, args, output: output * gain)
    with hook, caplog.at_level(logging.INFO):
        (plain,) = sound(generator)
        scale = 2 / np.abs(plain).max()
        gain *= scale
        (loud,) = sound(generator)
    assert np.abs(loud).max() == 1
    np.testing.assert_allclose(loud, plain * scale / 2, atol=1e-5)
    assert (
        "a candidate of stable-audio-open-1.0 went beyond" in caplog.records[0].message
        and "2.00" in caplog.records[0].message
    )


def test_what_is_not_finite_stays_so(loaded: Load) -> None:
    generator = loaded("stable-audio-open-1.0")
    with generator._pipe.vae.decoder.register_forward_hook(lambda module, args, output: output * math.nan):
        assert np.isnan(sound(generator)[0]).all()


@pytest.mark.parametrize("name", KINDS)
def test_runs_in_half_precision(name: str, loaded: Load) -> None:
    generator = loaded(name, dtype="bfloat16")
    assert backbone(generator).dtype == torch.bfloat16
    exact, half = sound(loaded(name))[0], sound(generator)[0]
    assert half.shape == exact.shape
    assert np.corrcoef(exact.ravel(), half.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", KINDS)
def test_the_licence_is_told(name: str, folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    say_licence.cache_clear()
    generator = KINDS[name][0](path=folders[name], device="cpu", steps=STEPS)
    KINDS[name][0](path=folders[name], device="cpu")
    said = [record.message for record in caplog.records]
    licence = generator.info.licence
    assert said == ([] if licence == "MIT" else [f"the weights of {name} are under {licence}"])
    (candidate,) = generator.generate(Prompt("piano"), (1,), KINDS[name][2])
    assert candidate.licence == licence


@pytest.mark.parametrize("name", KINDS)
def test_downloads_what_it_needs_and_no_more(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, allow_patterns))
        return str(folders[name])

    monkeypatch.setattr(hub, "_ask", lambda question: None)
    monkeypatch.setattr(hub, "snapshot_download", download)
    repository = {"repository": "somebody/medium"} if name == "stable-audio-3" else {}
    generator = KINDS[name][0](revision="v1", device="cpu", steps=STEPS, **repository)
    assert len(sound(generator)) == 1
    ((place, revision, patterns),) = asked
    assert "/" in place and revision == "v1"

    def wanted(file: str) -> bool:
        return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)

    own = [path.relative_to(folders[name]).as_posix() for path in folders[name].rglob("*") if path.is_file()]
    assert all(wanted(file) for file in own)
    large = ["model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.bin"]
    assert not any(wanted(file) for file in [*large, "audio_tokenizer/diffusion_pytorch_model.safetensors"])


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_or_foreign_file_is_told_in_one_line(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    kind = KINDS[name][0]
    folder = tmp_path / "copy"
    shutil.copytree(folders[name], folder)
    weights = next(folder.glob("vae/*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    for spoil, told in (
        (lambda: None, "cannot load"),
        (lambda: (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"})), "FluxPipeline"),
        (lambda: (folder / "model_index.json").write_text("{"), "cannot read"),
        (lambda: (folder / "model_index.json").unlink(), "model_index.json"),
    ):
        spoil()
        with pytest.raises(WeightsError, match=told) as caught:
            kind(path=folder, device="cpu")
        assert "\n" not in str(caught.value)


def test_damaged_weights_are_told_in_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders["audioldm2"], folder)
    (folder / "language_model" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot load the AudioLDM2Pipeline in") as caught:
        AudioLdm2(path=folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_tensor_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders["stable-audio-open-1.0"], folder)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="weights of the transformer in .* are missing"):
        StableAudioOpen(path=folder, device="cpu")


def test_stable_audio_3_says_where_its_weights_are_and_refuses_the_small_models(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="convert_stable_audio_3_to_diffusers"):
        StableAudio3()
    folder = saved(tmp_path, lambda: stable_audio_3(encoder_channels=128))
    with pytest.raises(WeightsError, match="small model"):
        StableAudio3(path=folder, device="cpu")


def test_stable_audio_3_takes_the_steps_that_its_scheduler_is_for(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(folders["stable-audio-3"], folder)
    settings = folder / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"stochastic_sampling": False}))
    assert StableAudio3(path=folder, device="cpu")._steps == 100
    assert StableAudio3(path=folders["stable-audio-3"], device="cpu")._steps == 8


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("steps", 0, "steps must be a whole number from 1 to 1000"),
        ("steps", 2.5, "steps must be"),
        ("guidance", 0.5, "guidance must be a number from 1"),
        ("guidance", "7", "guidance must be"),
        ("batch_size", 0, "batch_size must be a whole number"),
        ("device", "tpu", "device 'tpu' is not available"),
        ("dtype", "int8", "unknown dtype 'int8'"),
        ("path", "no/such/folder", "there is no folder"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(name: str, option: str, value: object, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        KINDS[name][0](**{"repository": "nobody/nothing", option: value})


def test_other_options_are_checked() -> None:
    with pytest.raises(InvalidInput, match="negative_prompt must be a str"):
        StableAudioOpen(negative_prompt=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="language must be a code"):
        AceStep(language="")


def test_auto_is_float32_on_a_cpu_and_half_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert resolve_dtype("auto", torch.device("cpu"), torch.float16) == torch.float32
    monkeypatch.setattr(torch.cuda, "device", lambda device: warnings.catch_warnings())
    for has_bfloat16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bfloat16: has)
        assert resolve_dtype("auto", gpu, torch.bfloat16) == expected
        assert resolve_dtype("auto", gpu, torch.float16) == torch.float16


def test_a_missing_package_says_which_extra_to_install(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependency, match=r"'torchsde' is not installed.*rerank-music\[diffusion\]"):
            StableAudioOpen(path=folders["stable-audio-open-1.0"])
    with monkeypatch.context() as patch:
        patch.setattr(diffusers, "StableAudio3Pipeline", None)
        with pytest.raises(MissingDependency, match="has no StableAudio3Pipeline"):
            StableAudio3(path=folders["stable-audio-3"], device="cpu")
    for module in ("diffusion", "stable_audio"):
        monkeypatch.delitem(sys.modules, f"rerank.generators.{module}")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r"'diffusers' is not installed.*rerank-music\[diffusion\]"):
        importlib.import_module("rerank.generators.stable_audio")


@pytest.mark.parametrize("name", KINDS)
def test_says_its_weights_and_its_options(name: str, folders: dict[str, Path], loaded: Load, tmp_path: Path) -> None:
    generator = loaded(name)
    options, version = dict(generator.info.options), generator.info.version
    assert (options["steps"], options["guidance"], options["dtype"]) == (STEPS, generator._guidance, "float32")
    assert json.loads(json.dumps(options)) == options
    listed = {option.name for option in registry.options("generator", name)}
    assert options.keys() == listed - {"path", "repository", "revision", "device"}
    if name == "audioldm2":  # one stands for all: what is read is read by all alike
        shutil.copytree(folders[name], tmp_path / "copy")
        assert AudioLdm2(path=tmp_path / "copy", device="cpu", dtype="bfloat16").info.version == version
        config = tmp_path / "copy" / "scheduler" / "scheduler_config.json"
        config.write_text(config.read_text().replace("}", " }"))
        other = AudioLdm2(path=tmp_path / "copy", device="cpu", dtype="bfloat16", negative_prompt="noise")
        assert other.info.version != version and other.info.options["dtype"] == "bfloat16"
        assert other.info.options["negative_prompt"] == "noise"
