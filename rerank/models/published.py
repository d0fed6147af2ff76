"""Published models from their files: MuQ, MuQ-MuLan and the compositional reward model.

Each is checked weight by weight and fused for inference. Beside its checkpoint a model needs only small files of the
models that it was built from: a `config.json` each, and the tokenizer.
"""

from pathlib import Path

from tokenizers import Tokenizer

from rerank.errors import WeightsError
from rerank.models.cmi import UNUSED as CMI_UNUSED
from rerank.models.cmi import CmiConfig, RewardModel, settings_of
from rerank.models.config import Config, read_json, read_yaml
from rerank.models.hub import Source
from rerank.models.mulan import UNUSED as MULAN_UNUSED
from rerank.models.mulan import Mulan, MulanAudioTower, MulanConfig, MulanTextTower
from rerank.models.muq import UNUSED as MUQ_UNUSED
from rerank.models.muq import Muq, MuqConfig
from rerank.models.tokenizer import check_states, read_tokenizer
from rerank.models.weights import load_strictly, read_weights, without_values
from rerank.models.xlm_roberta import END, START

MUQ, MULAN, CMI_RM = "OpenMuQ/MuQ-large-msd-iter", "OpenMuQ/MuQ-MuLan-large", "HaiwenXia/CMI-RM"
"""Repositories on the Hugging Face hub. All weights are CC BY-NC 4.0: not for commercial use."""

MUQ_SOURCE, MULAN_SOURCE, CMI_RM_SOURCE = Source(MUQ), Source(MULAN), Source(CMI_RM)

_AUDIO_UNUSED = ("aggregator.*", *(f"model.model.{name}" for name in MUQ_UNUSED))
_TEXT_UNUSED = ("model.pooler.*", "model.embeddings.position_ids")


def read_muq(source: Source = MUQ_SOURCE, fuse: bool = True) -> Muq:
    """Return MuQ from `config.json` and `model.safetensors`.

    Args:
        source: of its files.
        fuse: see `Muq.fuse`; without it the network is as it was published.

    Raises:
        WeightsError: a file is missing, broken, not supported or cannot be downloaded.
    """
    config = MuqConfig.of(read_json(source.file("config.json")))
    with without_values():
        model = Muq(config)
    path = source.file("model.safetensors")
    load_strictly(model, read_weights(path), where=str(path), unused=[f"model.{name}" for name in MUQ_UNUSED])
    model.eval()
    return model.fuse() if fuse else model


def read_mulan(source: Source = MULAN_SOURCE, fuse: bool = True) -> tuple[Mulan, Path]:
    """Return MuQ-MuLan from `config.json` and `pytorch_model.bin`, and the path of the latter.

    Args:
        source: of its files.
        fuse: see `read_muq`.

    Raises:
        WeightsError: a file is missing, broken, not supported or cannot be downloaded.
    """
    config, tokenizer = read_mulan_config(source)
    with without_values():
        model = Mulan(config, tokenizer)
    path = source.file("pytorch_model.bin")
    unused = [
        *MULAN_UNUSED,
        *(f"audio.{name}" for name in _AUDIO_UNUSED),
        *(f"text.{name}" for name in _TEXT_UNUSED),
    ]
    load_strictly(
        model,
        read_weights(path),
        where=str(path),
        prefix="mulan.",
        unused=[f"mulan.{name}" for name in unused],
    )
    model.eval()
    check_states(lambda text: model.text([text]).values[0], str(path))
    if fuse:
        model.audio.model.fuse()
    return model, path


def read_cmi_rm(source: Source = CMI_RM_SOURCE, fuse: bool = True) -> tuple[RewardModel, Path]:
    """Return the reward model from `config.yaml` and `model.safetensors`, and the path of the latter.

    Args:
        source: of its files.
        fuse: see `read_muq`.

    Raises:
        WeightsError: a file is missing, broken, not supported or cannot be downloaded.
    """
    model, path = build_cmi_rm(source), source.file("model.safetensors")
    unused = [
        *CMI_UNUSED,
        *(f"audio_module.{name}" for name in _AUDIO_UNUSED),
        *(f"text_module.{name}" for name in _TEXT_UNUSED),
    ]
    load_strictly(model, read_weights(path), where=str(path), unused=unused)
    audio = model.audio_module
    assert isinstance(audio, MulanAudioTower)
    check_states(lambda text: model.text_module([text]).values[0], str(path))
    if fuse:
        audio.model.fuse()
    return model, path


def build_cmi_rm(source: Source) -> RewardModel:
    """Return the reward model that a `config.yaml` describes, on the meta device: it has no weights yet.

    Raises:
        WeightsError: a config is missing, broken or not supported.
    """
    path = source.file("config.yaml")
    published = read_yaml(path)
    config = CmiConfig.of(published)
    settings = settings_of(published)
    name = Config(settings, str(path)).text("model_name") if "model_name" in settings else MULAN
    mulan, tokenizer = read_mulan_config(Source.named(name, path))
    for part in (mulan.audio_transformer, mulan.text_transformer):
        if part.dim != config.dim:
            raise WeightsError(f"{path}: dim is {config.dim}, and the towers of {name} are {part.dim} wide")
    with without_values():
        return RewardModel(config, MulanTextTower(mulan, tokenizer), MulanAudioTower(mulan)).eval()


def read_mulan_config(source: Source) -> tuple[MulanConfig, Tokenizer]:
    """Return the sizes of MuQ-MuLan, which the configs of its encoders complete, and the tokenizer of its text encoder.

    Raises:
        WeightsError: a file is missing, broken or not supported.
    """
    path = source.file("config.json")
    mulan = read_json(path)
    names = (Config(mulan, str(path)).part(part).text("name") for part in ("audio_model", "text_model"))
    muq, text = (Source.named(name, path) for name in names)
    config = MulanConfig.of(mulan, read_json(muq.file("config.json")), read_json(text.file("config.json")))
    return config, read_tokenizer(text.file("tokenizer.json"), config.text.vocabulary, (START, END))
