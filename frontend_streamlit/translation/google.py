"""Japanese to English by Google Cloud Translation v3, whose libraries are imported with the first request."""

import html
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from frontend_streamlit.translation import (
    Translation,
    TranslationDenied,
    TranslationEmpty,
    TranslationError,
    TranslationQuotaExceeded,
    TranslationTimedOut,
    TranslationUnavailable,
    TranslatorMisconfigured,
)
from frontend_streamlit.translation.english import is_english

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.translate_v3 import TranslationServiceClient
    from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceTransport

DEADLINE_S = 10.0  # for one translation, with all its attempts
CACHED_TEXTS = 256

# A channel reports credentials that could not be refreshed as UNAVAILABLE, whether their server is down or refuses;
# RFC 6749 (5.2) has these words for a refusal that lasts, google-auth the last one.
_CREDENTIALS_FAILED = "Getting metadata from plugin failed"
_CREDENTIALS_REFUSED = ("invalid_grant", "invalid_client", "unauthorized_client", "Reauthentication is needed")


class GoogleTranslator:
    """Translates with the application-default credentials; one text is asked for once as long as it stays cached.

    Args:
        project: the project that is billed, by id or number.
        location: a glossary needs its own region here.
        glossary: its id within project and location.
        transport: a connection of one's own instead of Google's address and the default credentials.
    """

    name = "google"
    is_closed_vocabulary = False

    def __init__(
        self,
        project: str,
        location: str = "global",
        glossary: str = "",
        *,
        transport: "TranslationServiceTransport | None" = None,
    ) -> None:
        self._project = project
        self._location = location
        self._glossary = glossary
        self._transport = transport
        self._client: TranslationServiceClient | None = None
        self._client_lock = Lock()
        self._cached_english = lru_cache(CACHED_TEXTS)(self._request_english)

    def translate(self, text: str) -> Translation:
        """Translate one text of any number of lines; English and blanks make no request.

        Raises: TranslationError, always one of its subclasses.
        """
        japanese = text.strip()
        english = self._cached_english(japanese) if japanese and not is_english(japanese) else text
        return Translation(source=text, english=english, translator=self.name)

    def _request_english(self, japanese: str) -> str:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.api_core.retry import Retry
        from google.cloud.translate_v3 import TranslateTextGlossaryConfig, TranslateTextRequest

        if not self._project:
            raise TranslatorMisconfigured("Google Cloud Translation needs the id of a project")
        if self._glossary and self._location == "global":
            raise TranslatorMisconfigured(f"glossary {self._glossary} needs its region, such as us-central1")
        parent = f"projects/{self._project}/locations/{self._location}"
        request = TranslateTextRequest(
            parent=parent,
            contents=[japanese],
            mime_type="text/plain",  # not HTML, the default, whose answers have entities and lose line breaks
            source_language_code="ja",
            target_language_code="en",
        )
        if self._glossary:
            glossary = f"{parent}/glossaries/{self._glossary}"
            request.glossary_config = TranslateTextGlossaryConfig(glossary=glossary)
        # An attempt with less than a second left would get the whole deadline anew (google.api_core.timeout).
        retry = Retry(predicate=_may_pass, initial=0.2, maximum=1.0, timeout=DEADLINE_S / 2)
        try:
            response = self._connected().translate_text(request, retry=retry, timeout=DEADLINE_S)
        except RetryError as error:
            raise TranslationUnavailable(f"Google Cloud Translation stays unavailable: {error.cause}") from error
        except GoogleAPICallError as error:
            raise _named(error) from error
        translations = response.glossary_translations or response.translations
        english = html.unescape(translations[0].translated_text).strip() if translations else ""
        if not english:
            raise TranslationEmpty("Google Cloud Translation answered without a text")
        return english

    def _connected(self) -> "TranslationServiceClient":
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.translate_v3 import TranslationServiceClient

        with self._client_lock:
            if self._client is None:
                try:
                    self._client = TranslationServiceClient(transport=self._transport)
                except GoogleAuthError as error:
                    raise TranslatorMisconfigured(
                        "Google Cloud Translation needs credentials: run `gcloud auth application-default login`, or "
                        f"run the page as a service account ({error})"
                    ) from error
            return self._client


def _may_pass(error: Exception) -> bool:
    """Whether asking again can help."""
    from google.api_core.exceptions import ServiceUnavailable

    return isinstance(error, ServiceUnavailable) and not _are_credentials_refused(error)


def _are_credentials_refused(error: "GoogleAPICallError") -> bool:
    message = str(error.message)
    return message.startswith(_CREDENTIALS_FAILED) and any(word in message for word in _CREDENTIALS_REFUSED)


def _named(error: "GoogleAPICallError") -> TranslationError:
    """The same error as one of ours."""
    from google.api_core import exceptions

    told = f"Google Cloud Translation: {error.message}"
    if isinstance(error, exceptions.TooManyRequests) or (
        isinstance(error, exceptions.Forbidden) and "Limit Exceeded" in error.message  # so the page on its quotas says
    ):
        return TranslationQuotaExceeded(told)
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized) or _are_credentials_refused(error):
        return TranslationDenied(told)
    if isinstance(error, exceptions.GatewayTimeout):
        return TranslationTimedOut(f"Google Cloud Translation did not answer within {DEADLINE_S:g} s")
    if isinstance(error, exceptions.BadRequest | exceptions.NotFound):
        return TranslatorMisconfigured(f"{told} (project, location or glossary)")
    return TranslationUnavailable(told)
