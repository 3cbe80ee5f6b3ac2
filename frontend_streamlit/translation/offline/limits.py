"""Tell which parts of a scene the model can't draw, though its English names them."""

from collections.abc import Iterator

from frontend_streamlit.translation.characters import fold_kana
from frontend_streamlit.translation.offline.lexicon import Lexicon
from frontend_streamlit.translation.offline.scene import Scene, Span, Thing


def undrawn_spans(scene: Scene, text: str, lexicon: Lexicon) -> Iterator[Span]:
    """The spans of the text that say more than one picture can hold, in no order."""
    limits = lexicon.limits
    parts = scene.phrases()
    things = [end for part in parts for end in ((part,) if isinstance(part, Thing) else (part.subject, part.reference))]
    drawn = things[: limits.things]
    yield from (thing.span for thing in things[limits.things :])
    for place, thing in enumerate(drawn):
        if any(thing.noun == other.noun for other in drawn[:place]):
            yield thing.span  # two alike things stand side by side
        if thing.number_span and not _draws_number(thing, len(drawn), lexicon):
            yield thing.number_span
        if thing.colour and not _draws_colour(thing, len(drawn), text, lexicon):
            yield thing.colour_span
    grounds = [scene.background_span] * bool(scene.background) + list(scene.settings.values())
    yield from grounds[: -limits.grounds]
    yield from list(scene.styles.values())[: -limits.styles]
    if scene.background and not scene.settings and _is_finer(scene.background_span, text, lexicon):
        yield scene.background_span


def _draws_number(thing: Thing, things: int, lexicon: Lexicon) -> bool:
    return thing.number == 1 or (
        things <= lexicon.limits.things_beside_a_number and 1 < thing.number <= lexicon.largest_number
    )


def _draws_colour(thing: Thing, things: int, text: str, lexicon: Lexicon) -> bool:
    is_concept = f"{thing.colour} {thing.noun}" in lexicon.plurals  # a green apple
    if is_concept or thing.colour == lexicon.own_colours.get(thing.noun):
        return True
    return (
        thing.noun in lexicon.tintable
        and not _is_finer(thing.colour_span, text, lexicon)
        and things <= lexicon.limits.things_beside_a_tint
        and thing.number <= lexicon.limits.number_in_a_tint
    )


def _is_finer(span: Span, text: str, lexicon: Lexicon) -> bool:
    return fold_kana(text[slice(*span)]) in lexicon.finer_colours
