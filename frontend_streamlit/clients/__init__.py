"""The clients that all visits share, made once from the settings."""

from dataclasses import dataclass

from frontend_streamlit.clients.backend import BackendClient
from frontend_streamlit.clients.gallery import Gallery
from frontend_streamlit.clients.gpu_vm import GpuVm
from frontend_streamlit.settings import Settings
from frontend_streamlit.translation import Translator
from frontend_streamlit.translation.choose import choose_translator


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What the page acts through."""

    settings: Settings
    backend: BackendClient
    gallery: Gallery
    translator: Translator
    gpu_vm: GpuVm | None  # to wake; None: the backend is always there


def make_clients(settings: Settings) -> Clients:
    """Make them; nothing is asked or loaded yet."""
    return Clients(
        settings=settings,
        backend=BackendClient(settings.backend_url, settings.backend_token.get_secret_value()),
        gallery=Gallery(settings.gallery),
        translator=choose_translator(settings),
        gpu_vm=GpuVm(settings.gpu_vm) if settings.gpu_vm else None,
    )
