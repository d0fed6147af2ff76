"""What is built in: every generator and reward model, described here and nowhere else.

What an entry says of one is known without importing it. Its class takes it from here, and adds what only loading tells.
"""

from rerank.names.entry import Download, Entry
from rerank.protocols import Axis, GeneratorInfo, RewardInfo

_AXES = {
    "musicality": Axis(
        meaning="how good the audio is as music: composition, performance and sound, whatever was asked for"
    ),
    "alignment": Axis(
        meaning="how well the audio fits all parts of its prompt: text, lyrics and reference audio",
        needs_any=frozenset({"text", "lyrics", "reference"}),
    ),
}

_MULAN_ENCODERS = ("MuQ-MuLan", "MuQ", "XLM-RoBERTa")

_ENCODER_FILES = {"OpenMuQ/MuQ-large-msd-iter": ("config.json",), "xlm-roberta-base": ("config.json", "tokenizer.json")}
"""Small files of the encoders that MuQ-MuLan is made of."""

_ENGLISH = ("en",)
_OF_MULAN = ("en", "zh")

_NOT_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"
_STABILITY = "Stability AI Community License (free below 1 million US$ of revenue a year)"


def _musicgen(name: str, gigabytes: float, *, channels: int = 1, melody: bool = False) -> Entry:
    """Return the entry of a published MusicGen model."""
    repository = f"facebook/{name}"
    return Entry(
        kind="generator",
        name=name,
        target="rerank.generators.musicgen:MusicGen",
        fixed={"name": name, "repository": repository},
        download=Download(
            round(gigabytes * 1e9),
            {repository: ("config.json", "model.safetensors|model.safetensors.index.json", "tokenizer.json")},
        ),
        info=GeneratorInfo(
            name=name,
            sample_rate=32_000,
            channels=channels,
            max_duration=30.0,
            conditions=frozenset({"text", "reference"} if melody else {"text"}),
            languages=_ENGLISH,
            licence=_NOT_COMMERCIAL,
        ),
    )


BUILT_IN = (
    Entry(
        kind="generator",
        name="synth",
        target="rerank.generators.synth:Synth",
        info=GeneratorInfo(
            name="synth",
            sample_rate=32_000,
            channels=2,
            max_duration=300.0,
            conditions=frozenset({"text", "lyrics", "reference"}),
            languages=_ENGLISH,
            licence="Apache-2.0; the audio is yours",
        ),
    ),
    Entry(
        kind="generator",
        name="musicgen",
        target="rerank.generators.musicgen:MusicGen",
        fixed={"name": "musicgen", "repository": None},
        marker='config.json:"model_type": "musicgen',
        needs_folder=True,
        info=GeneratorInfo(
            name="musicgen",
            sample_rate=32_000,
            channels=1,
            max_duration=30.0,
            languages=_ENGLISH,
            licence=_NOT_COMMERCIAL,
        ),
    ),
    # sizes: of the parameters in float32
    _musicgen("musicgen-small", 2.4),
    _musicgen("musicgen-medium", 8.0),
    _musicgen("musicgen-large", 13.7),
    _musicgen("musicgen-melody", 6.2, melody=True),
    _musicgen("musicgen-melody-large", 10.3, melody=True),
    _musicgen("musicgen-stereo-small", 2.4, channels=2),
    _musicgen("musicgen-stereo-medium", 8.1, channels=2),
    _musicgen("musicgen-stereo-large", 13.8, channels=2),
    _musicgen("musicgen-stereo-melody", 6.3, channels=2, melody=True),
    _musicgen("musicgen-stereo-melody-large", 10.4, channels=2, melody=True),
    Entry(
        kind="generator",
        name="stable-audio-open-1.0",
        target="rerank.generators.stable_audio:StableAudioOpen",
        download=Download(
            5_300_000_000,
            {
                "stabilityai/stable-audio-open-1.0": (
                    "model_index.json",
                    "transformer/diffusion_pytorch_model.safetensors",
                    "vae/diffusion_pytorch_model.safetensors",
                    "text_encoder/model.safetensors",
                )
            },
        ),
        marker="projection_model/config.json",
        info=GeneratorInfo(
            name="stable-audio-open-1.0",
            sample_rate=44_100,
            channels=2,
            max_duration=47.55,
            languages=_ENGLISH,
            licence=_STABILITY,
        ),
    ),
    Entry(
        kind="generator",
        name="stable-audio-open-small",
        target="rerank.generators.stable_audio_small:StableAudioSmall",
        download=Download(
            2_880_000_000,
            {
                "stabilityai/stable-audio-open-small": ("model_config.json", "model.safetensors"),
                "t5-base": ("config.json", "model.safetensors", "tokenizer.json"),
            },
        ),
        marker="model_config.json",
        info=GeneratorInfo(
            name="stable-audio-open-small",
            sample_rate=44_100,
            channels=2,
            max_duration=11.88,
            languages=_ENGLISH,
            licence=_STABILITY,
        ),
    ),
    Entry(
        kind="generator",
        name="stable-audio-3",
        target="rerank.generators.stable_audio:StableAudio3",
        marker="duration_embedder/config.json",
        needs_folder=True,
        info=GeneratorInfo(
            name="stable-audio-3",
            sample_rate=44_100,
            channels=2,
            max_duration=380.0,
            languages=_ENGLISH,
            licence=f"{_STABILITY}; text encoder: Gemma Terms of Use",
        ),
    ),
    Entry(
        kind="generator",
        name="ace-step",
        target="rerank.generators.ace_step:AceStep",
        download=Download(
            11_000_000_000,
            {
                "ACE-Step/acestep-v15-xl-turbo-diffusers": (
                    "model_index.json",
                    "vae/diffusion_pytorch_model.safetensors",
                    "text_encoder/model.safetensors",
                )
            },
        ),
        marker="condition_encoder/config.json",
        info=GeneratorInfo(
            name="ace-step",
            sample_rate=48_000,
            channels=2,
            max_duration=600.0,
            min_duration=10.0,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence="MIT",
        ),
    ),
    Entry(
        kind="generator",
        name="audioldm2",
        target="rerank.generators.audioldm2:AudioLdm2",
        download=Download(
            4_400_000_000,
            {"cvssp/audioldm2-music": ("model_index.json", "unet/diffusion_pytorch_model.safetensors")},
        ),
        marker="language_model/config.json",
        info=GeneratorInfo(
            name="audioldm2",
            sample_rate=16_000,
            channels=1,
            max_duration=10.24,
            languages=_ENGLISH,
            licence="CC BY-NC-SA 4.0 (not for commercial use)",
        ),
    ),
    Entry(
        kind="reward",
        name="cmi-mini",
        target="rerank.rewards.mini:load_mini",
        marker="vocabulary.json",
        info=RewardInfo(
            name="cmi-mini",
            axes=_AXES,
            sample_rate=24_000,
            conditions=frozenset({"text", "lyrics", "reference"}),
            languages=_ENGLISH,
            licence="Apache-2.0",
            trained_on=("synth",),
        ),
    ),
    Entry(
        kind="reward",
        name="cmi-rm",
        target="rerank.rewards.cmi_rm:load_cmi_rm",
        download=Download(
            2_782_870_600,
            {
                "HaiwenXia/CMI-RM": ("config.yaml", "model.safetensors"),
                "OpenMuQ/MuQ-MuLan-large": ("config.json",),
                **_ENCODER_FILES,
            },
        ),
        marker="config.yaml",
        info=RewardInfo(
            name="cmi-rm",
            axes=_AXES,
            sample_rate=24_000,
            conditions=frozenset({"text", "lyrics", "reference"}),
            languages=_OF_MULAN,
            licence=_NOT_COMMERCIAL,
            encoders=_MULAN_ENCODERS,
            trained_on=("CMI-Pref-Pseudo", "CMI-Pref", "MusicEval"),
            calibration=1.0,  # by its training: Bradley-Terry on each axis, P(A > B) = sigmoid(reward A - reward B)
        ),
    ),
    Entry(
        kind="reward",
        name="mulan",
        target="rerank.rewards.mulan:load_mulan",
        download=Download(
            2_654_000_000, {"OpenMuQ/MuQ-MuLan-large": ("config.json", "pytorch_model.bin"), **_ENCODER_FILES}
        ),
        marker="pytorch_model.bin",
        info=RewardInfo(
            name="mulan",
            axes={
                "alignment": Axis(
                    meaning="how similar text and audio are to MuQ-MuLan: the cosine of their vectors",
                    needs=frozenset({"text"}),
                    low=-1.0,
                    high=1.0,
                )
            },
            sample_rate=24_000,
            conditions=frozenset({"text"}),
            languages=_OF_MULAN,
            licence=_NOT_COMMERCIAL,
            encoders=_MULAN_ENCODERS,
        ),
    ),
)


def generator_info(name: str) -> GeneratorInfo:
    """Return what is known of a built-in generator without loading it."""
    info = _INFO["generator", name]
    assert isinstance(info, GeneratorInfo)
    return info


def reward_info(name: str) -> RewardInfo:
    """Return what is known of a built-in reward model without loading it."""
    info = _INFO["reward", name]
    assert isinstance(info, RewardInfo)
    return info


_INFO = {(entry.kind, entry.name): entry.info for entry in BUILT_IN}
