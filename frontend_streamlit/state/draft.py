"""What the user is about to ask for: the prompt, its English, and how both come back after a refresh."""

import logging
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from frontend_streamlit.state.form import Fields, Form
from frontend_streamlit.translation import Translation, TranslationError, Translator

logger = logging.getLogger(__name__)
Kind = TypeVar("Kind")


class StoredDraft(BaseModel):
    """A draft as the browser stores it."""

    model_config = ConfigDict(frozen=True)

    fields: Fields = Fields()
    translation: Translation | None = None
    model: str = ""  # the model that the numbers were chosen for


@dataclass
class Draft:
    """The prompt and its English; the texts themselves stand in the form."""

    form: Form
    translated: str = ""  # the prompt that was last given to the translator
    translation: Translation | None = None
    translation_error: TranslationError | None = None

    @property
    def is_edited(self) -> bool:
        """Whether the English is not what the translator wrote."""
        written = self.translation.english if self.translation else ""
        return bool(self.form.english.strip()) and self.form.english != written

    @property
    def is_stale(self) -> bool:
        """Whether the Japanese has changed since it was translated."""
        translated = self.translation.source if self.translation else ""
        return self.form.source_prompt.strip() != translated

    @property
    def translator(self) -> str:
        """Who wrote the English."""
        return "edited" if self.is_edited else self.translation.translator if self.translation else ""

    def take_example(self, example: str, translator: Translator) -> None:
        """Put an example into the field and translate it."""
        self.form.source_prompt = example
        self.translate(translator)

    def follow_prompt(self, translator: Translator) -> None:
        """Translate the prompt if it has changed, unless that would overwrite what the user wrote in English."""
        if self.form.source_prompt.strip() != self.translated and not self.is_edited:
            self.translate(translator)

    def catch_up(self, translator: Translator) -> None:
        """Make up for what Streamlit loses when the user acts during a run: a callback, or what a callback has set."""
        if self.translation and not self.is_stale and not self.form.english.strip():
            self.undo_edits()
        else:
            self.follow_prompt(translator)

    def translate(self, translator: Translator) -> None:
        """Translate the prompt; an error is for the page to show, and leaves English that the user wrote."""
        source = self.form.source_prompt.strip()
        was_edited = self.is_edited
        self.translated, self.translation_error = source, None
        if not source:
            self.translation = None
            self.form.english = ""
            return
        try:
            self.translation = translator.translate(source)
        except TranslationError as error:
            logger.warning("not translated: %s: %s", type(error).__name__, error)
            self.translation, self.translation_error = None, error
            if not was_edited:
                self.form.english = ""  # it says something else than the prompt
            return
        self.form.english = self.translation.english

    def undo_edits(self) -> None:
        """Forget the user's edits of the English."""
        if self.translation:
            self.form.english = self.translation.english

    def take_texts(self, record: dict[str, Any]) -> None:
        """Put what a picture was made of into the fields."""
        self.form.restored.clear()
        english = record["prompt"]
        source = record.get("source_prompt") or english
        self.form.source_prompt, self.form.english = source, english
        self.translated, self.translation_error = source.strip(), None
        self.translation = Translation(source=source, english=english, translator=record.get("translator") or "edited")

    def to_store(self, model: str) -> dict[str, Any]:
        """The draft for the browser to store: JSON."""
        stored = StoredDraft.model_construct(fields=self.form.fields(), translation=self.translation, model=model)
        return stored.model_dump(mode="json", exclude_unset=True)

    def take_stored(self, stored: object, translator: Translator) -> str | None:
        """Take back what the browser stored, unless the user has begun something new.

        Returns: the model that its numbers were chosen for; None if nothing was taken.
        """
        draft = read_draft(stored)
        if draft is None or self._has_texts_unlike(Fields(), draft.fields, read_written(stored)):
            return None
        self.form.take_back(draft.fields)
        self.translation = draft.translation
        self.translated = draft.translation.source if draft.translation else ""
        self.follow_prompt(translator)  # the prompt may have been in the middle of being typed
        return draft.model

    def _has_texts_unlike(self, *earlier: Fields) -> bool:
        """Whether prompt or English is none of these: new. A browser whose server was replaced sends old ones."""
        return self.form.source_prompt not in {fields.prompt for fields in earlier} or self.form.english not in {
            fields.english for fields in earlier
        }


def read_draft(stored: object) -> StoredDraft | None:
    """The draft in what a browser stored; None if it has none, or one of another version of the page."""
    if not isinstance(stored, dict):
        return None
    draft = valid(StoredDraft, stored.get("draft"))
    typed = stored.get("typed")  # since then
    if not isinstance(typed, dict) or not typed:
        return draft
    draft = draft or StoredDraft()
    fields = valid(Fields, draft.fields.model_dump() | typed)
    return draft.model_copy(update={"fields": fields}) if fields else draft


def read_written(stored: object) -> Fields:
    """The fields as the page last had them stored, before what was typed since then."""
    draft = valid(StoredDraft, stored.get("draft")) if isinstance(stored, dict) else None
    return (draft or StoredDraft()).fields


def valid(kind: type[Kind], document: object) -> Kind | None:
    """A record of that kind; None if the document is none."""
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError:
        return None
