"""Settings of the page, from the environment (`FRONTEND_…`)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

TranslatorName = Literal["auto", "offline", "google", "local"]


class Settings(BaseSettings):
    """What an operator may choose; read once by the entry point."""

    model_config = SettingsConfigDict(env_prefix="FRONTEND_")

    port: Annotated[int, Field(ge=1, le=65535, description="port of the page")] = 8501
    backend_url: Annotated[str, Field(description="where the backend is")] = "http://127.0.0.1:8000"
    backend_token: Annotated[SecretStr, Field(description="the backend's bearer token")] = SecretStr("")
    gallery: Annotated[str, Field(description="folder or gs:// URL of the gallery")] = "data/gallery"
    translator: Annotated[
        TranslatorName,
        Field(description="auto takes google if it has a project, local if it has a folder, else offline"),
    ] = "auto"
    google_project: Annotated[str, Field(description="project that pays for Cloud Translation")] = ""
    google_location: Annotated[str, Field(description="its location; a glossary needs a region")] = "global"
    google_glossary: Annotated[str, Field(description="glossary to translate with")] = ""
    local_translator: Annotated[Path | None, Field(description="folder of a CTranslate2 model")] = None
    gpu_vm: Annotated[str, Field(description="projects/P/zones/Z/instances/N to wake; empty: none")] = ""
    login: Annotated[
        Literal["none", "oidc", "iap"], Field(description="who the user is: the link, st.login, or IAP")
    ] = "none"
    iap_audience: Annotated[str, Field(description="audience of IAP's signed header; needed with login iap")] = ""
