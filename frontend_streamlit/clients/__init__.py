"""The clients that all visits share, made once from the settings."""

import logging
from dataclasses import dataclass
from pathlib import Path

from frontend_streamlit.clients.backend import BackendClient
from frontend_streamlit.clients.gallery import Gallery
from frontend_streamlit.clients.gpu_vm import GpuVm
from frontend_streamlit.settings import Settings
from frontend_streamlit.translation import Translation, Translator, TranslatorMisconfigured
from frontend_streamlit.translation.google import GoogleTranslator
from frontend_streamlit.translation.local_model import LocalModelTranslator
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR, OfflineTranslator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What the page acts through."""

    settings: Settings
    backend: BackendClient
    gallery: Gallery
    translator: Translator
    gpu_vm: GpuVm | None  # to wake; None: the backend is always there


@dataclass(frozen=True)
class MisconfiguredTranslator:
    """Stands in for a translator whose settings can't work, so that English can still be typed."""

    name: str
    error: TranslatorMisconfigured

    def translate(self, text: str) -> Translation:
        """Say why there is no translation.

        Raises:
            TranslatorMisconfigured: always.
        """
        del text
        raise self.error


def make_clients(settings: Settings) -> Clients:
    """Make them; nothing is asked or loaded yet."""
    return Clients(
        settings=settings,
        backend=BackendClient(settings.backend_url, settings.backend_token.get_secret_value()),
        gallery=Gallery(settings.gallery),
        translator=choose_translator(settings),
        gpu_vm=GpuVm(settings.gpu_vm) if settings.gpu_vm else None,
    )


def choose_translator(settings: Settings) -> Translator:
    """The translator that was asked for; with auto the best one that is configured."""
    name = settings.translator
    if name == "auto":
        name = "google" if settings.google_project else "local" if settings.local_translator else "offline"
    try:
        if name == "google":
            return GoogleTranslator(settings.google_project, settings.google_location, settings.google_glossary)
        if name == "local":
            return LocalModelTranslator(settings.local_translator or Path())
    except TranslatorMisconfigured as error:
        logger.warning("the translator %s can't work: %s", name, error)
        return MisconfiguredTranslator(name, error)
    return OfflineTranslator(settings.mini_dir or DEFAULT_DATA_DIR)
