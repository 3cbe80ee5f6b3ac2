"""Which translator the settings ask for."""

from pathlib import Path

from frontend_streamlit.settings import Settings
from frontend_streamlit.translation import Translator
from frontend_streamlit.translation.google import GoogleTranslator
from frontend_streamlit.translation.local_model import LocalModelTranslator
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR, OfflineTranslator


def choose_translator(settings: Settings) -> Translator:
    """The translator that was asked for; with auto the best one that is configured.

    Nothing is loaded yet: a translator whose settings can't work raises TranslatorMisconfigured with the first text.
    """
    name = settings.translator
    if name == "auto":
        name = "google" if settings.google_project else "local" if settings.local_translator else "offline"
    if name == "google":
        return GoogleTranslator(settings.google_project, settings.google_location, settings.google_glossary)
    if name == "local":
        return LocalModelTranslator(settings.local_translator or Path())
    return OfflineTranslator(settings.mini_dir or DEFAULT_DATA_DIR)
