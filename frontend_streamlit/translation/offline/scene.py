"""Parse a row of Japanese words into a scene graph: things, their colours and positions, a background, scenes, styles.

Every step either gives a word a role or reports it as unknown; none is dropped. The particles around a word decide.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from frontend_streamlit.translation.characters import fold_kana
from frontend_streamlit.translation.offline.attributes import report_attributes
from frontend_streamlit.translation.offline.lexicon import Kind, Lexicon
from frontend_streamlit.translation.offline.negations import join_negated
from frontend_streamlit.translation.offline.numbers import NUMERAL
from frontend_streamlit.translation.offline.segments import Token
from frontend_streamlit.translation.offline.senses import disambiguate, is_symbol

_SILENT = frozenset({Kind.SPACE, Kind.FILLER, Kind.DECORATION, Kind.PREFIX, Kind.NOUN_SUFFIX})
_UNKNOWN = frozenset({Kind.UNKNOWN, Kind.NOT_A_NAME})
_OF = ("の", "な", "をした", "をしている", "をしてる")  # between a colour and its noun
_REACH = 12  # words between a colour and its noun
_OPPOSITE = {"to the left of": "to the right of", "above": "below"}
_OPPOSITE |= {b: a for a, b in _OPPOSITE.items()}


Span = tuple[int, int]  # of the text: from, to


@dataclass
class Thing:
    """Something to draw; `place` is where the word stands in the row of words."""

    noun: str
    place: int
    span: Span
    colour: str = ""
    colour_span: Span = (0, 0)
    number: int = 1
    number_span: Span | None = None


@dataclass(frozen=True)
class Relation:
    """`subject` lies `position` (to the left of, above, ...) `reference`."""

    subject: Thing
    position: str
    reference: Thing


@dataclass
class SceneGraph:
    """What a sentence describes, and the spans of the text that this does not express.

    `scenes` and `styles` map the English of each to where the text says it.
    """

    things: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    background: str = ""
    background_span: Span = (0, 0)
    scenes: dict[str, Span] = field(default_factory=dict)
    styles: dict[str, Span] = field(default_factory=dict)
    unknown_spans: list[Span] = field(default_factory=list)

    def phrases(self) -> list[Thing | Relation]:
        """Things and relations in the order of a caption: a relation where the first of its two things stands."""
        relation_of: dict[int, Relation] = {}
        for relation in self.relations:
            relation_of |= {relation.subject.place: relation, relation.reference.place: relation}
        phrases: dict[int, Thing | Relation] = {}
        for thing in self.things:
            related = relation_of.get(thing.place)
            phrases[related.subject.place if related else thing.place] = related or thing
        return list(phrases.values())


def read_scene_graph(tokens: list[Token], lexicon: Lexicon) -> SceneGraph:
    """The scene graph that the tokens of one text describe."""
    return _Reader(tokens, lexicon).read()


class _Reader:
    def __init__(self, tokens: list[Token], lexicon: Lexicon) -> None:
        words = report_attributes(disambiguate(join_negated(tokens), lexicon), lexicon)
        self.words = [word for word in words if word.kind not in _SILENT]
        self.lexicon = lexicon
        self.graph = SceneGraph()
        self.things: dict[int, Thing] = {}  # by the place of every mention
        for place in self.places_of(Kind.NOUN):
            self.read_noun(place)
        self.used: set[int] = set()  # places of colours that the background took

    def read(self) -> SceneGraph:
        self.graph.things = [thing for place, thing in self.things.items() if thing.place == place]
        for place in self.places_of(Kind.BACKGROUND):
            self.read_background(place)
        for place in self.places_of(Kind.COLOUR):
            if place not in self.used:
                self.read_colour(place)
        for place in self.places_of(Kind.NUMBER):
            self.read_number(place)
            self.report_upper_number(self.words[place])
        self.read_positions()
        self.add_alike()
        for word in self.words:
            if word.kind is Kind.SCENE:
                self.read_scene(word)
            elif word.kind is Kind.STYLE:
                self.graph.styles.setdefault(word.value, word.span)
            elif word.kind in _UNKNOWN:
                self.graph.unknown_spans.append(word.span)
        return self.graph

    def read_scene(self, word: Token) -> None:
        """Note a scene; one that would show what the sentence negates (雲のない青空) is only a background."""
        shown = self.lexicon.drawn_by_scene.get(word.value, ())
        if not any(meaning.value in shown for other in self.words for meaning in other.meanings if self.negates(other)):
            self.graph.scenes.setdefault(word.value, word.span)
        elif self.graph.background:
            self.graph.unknown_spans.append(word.span)
        else:
            self.graph.background, self.graph.background_span = self.lexicon.empty_scene[word.value], word.span

    @staticmethod
    def negates(word: Token) -> bool:
        return word.kind is Kind.UNKNOWN and bool(word.value)

    # Looking around; places outside the sentence hold nothing

    def places_of(self, kind: Kind) -> list[int]:
        return [place for place, word in enumerate(self.words) if word.kind is kind]

    def kind(self, place: int) -> Kind | None:
        return self.words[place].kind if 0 <= place < len(self.words) else None

    def is_particle(self, place: int, *surfaces: str) -> bool:
        return self.kind(place) is Kind.PARTICLE and (not surfaces or self.words[place].surface in surfaces)

    def ends_clause(self, place: int) -> bool:
        return self.kind(place) in (None, Kind.BREAK)

    def things_in_clause(self, place: int) -> list[int]:
        """Places of the things after a word and before the next break."""
        end = next((p for p in range(place, len(self.words)) if self.kind(p) is Kind.BREAK), len(self.words))
        return [p for p in range(place + 1, end) if p in self.things]

    def report(self, place: int, last: int | None = None) -> None:
        end = self.words[place if last is None else last].end
        self.graph.unknown_spans.append((self.words[place].start, end))

    # Things: 🐱🐱 are two; in 猫の絵。猫は白い the second cat is the first

    def read_noun(self, place: int) -> None:
        word = self.words[place]
        if place - 1 in self.things and is_symbol(word) and self.words[place - 1].surface == word.surface:
            thing = self.things[place - 1]
            thing.number, thing.number_span = thing.number + 1, word.span
        else:
            thing = self.mentioned_again(place) or Thing(word.value, place, word.span)
        self.things[place] = thing

    def mentioned_again(self, place: int) -> Thing | None:
        """The earlier thing that a clause takes up (猫は...) or that makes the noise of its own name (犬がわんわん)."""
        is_topic = self.ends_clause(place - 1) and self.is_particle(place + 1, "は")
        is_noise = self.is_particle(place - 1, "が") and not self.is_particle(place + 1)
        owner = self.things.get(place - 2) if self.is_particle(place - 1, "の") else None
        if owner is not None and owner.noun == self.words[place].value:
            return owner  # 七夕の短冊
        if not is_topic and not is_noise:
            return None
        return next((thing for thing in self.things.values() if thing.noun == self.words[place].value), None)

    # Background: 青い背景, 青を背景に, 背景は青, 夜空を背景に

    def read_background(self, place: int) -> None:
        before = place - 2 if self.is_particle(place - 1, "の", "な", "を") else place - 1
        after = place + 1
        while self.is_particle(after) or (after == place + 1 and self.kind(after) is Kind.BREAK):
            after += 1
        if self.kind(after) in _UNKNOWN and self.kind(after + 1) is Kind.COLOUR:
            after += 1  # 背景は薄いピンク
        if self.kind(before) is Kind.COLOUR and before not in self.used and not self.lists_colours(place, after):
            self.take_background(place, before)
        elif self.kind(after) is Kind.COLOUR and not self.colours_a_noun(place, after):
            self.take_background(place, after)
        elif Kind.SCENE not in (self.kind(before), self.kind(after)):
            self.report(place)

    def lists_colours(self, background: int, after: int) -> bool:
        """りんご 赤 背景 青: the colour behind each word is its own."""
        is_apart = self.words[background - 1].end < self.words[background].start
        is_listed = self.kind(background - 1) is Kind.COLOUR and self.kind(background - 2) is Kind.NOUN
        return is_apart and is_listed and self.kind(after) is Kind.COLOUR and self.ends_clause(after + 1)

    def take_background(self, place: int, colour: int) -> None:
        if self.graph.background:
            self.report(min(place, colour), max(place, colour))
        else:
            self.graph.background, self.graph.background_span = self.words[colour].value, self.words[colour].span
        self.used.add(colour)

    def colours_a_noun(self, background: int, colour: int) -> bool:
        """背景に赤い車 speaks of a red car, 背景が青い猫 of a blue background."""
        if self.is_particle(background + 1, "が") or self.kind(colour + 1) is not Kind.NOUN:
            return False
        return self.words[colour + 1].start == self.words[colour].end

    # Colours: 赤いりんご, りんごは赤

    def read_colour(self, place: int) -> None:
        ahead = self.coloured_ahead(place)
        behind = self.coloured_behind(place)
        if self.describes_what_is_before(place, ahead):
            ahead = None
        target = next((p for p in (ahead, behind) if p is not None), None)
        if target is None:
            self.report(place)
        elif self.kind(target) in _UNKNOWN:
            self.report(min(place, target), max(place, target))
        elif self.things[target].colour:
            self.report(place)
        else:
            word, thing = self.words[place], self.things[target]
            thing.colour, thing.colour_span = word.value, word.span

    def coloured_ahead(self, place: int) -> int | None:
        """The noun after a colour; an unknown word with a particle behind it counts as one (赤い屋根の)."""
        for ahead in range(place + 1, min(place + _REACH, len(self.words))):
            kind = self.kind(ahead)
            if kind is Kind.NOUN:
                return ahead
            if kind in _UNKNOWN:
                if self.is_particle(ahead + 1):
                    return ahead
            elif kind is Kind.PARTICLE:
                links_colours = self.is_particle(ahead, "と", "や") and self.kind(ahead + 1) is Kind.COLOUR
                if not links_colours and not self.is_particle(ahead, *_OF):
                    return None
            elif kind not in (Kind.NUMBER, Kind.STYLE, Kind.COLOUR):
                return None
        return None

    def coloured_behind(self, place: int) -> int | None:
        behind = place - 1
        while self.is_particle(behind, "は", "が", "を", "の", "も") or self.kind(behind) is Kind.BREAK:
            behind -= 1
        return behind if self.kind(behind) is Kind.NOUN else None

    def describes_what_is_before(self, place: int, ahead: int | None) -> bool:
        """帽子が赤い猫, 目の赤いうさぎ: not the last thing is red; but 犬が赤い車に乗る: the car is."""
        if ahead is None or self.kind(place - 2) not in (Kind.NOUN, Kind.UNKNOWN):
            return False
        is_adjective = self.words[place].surface.endswith("い")
        is_plain = is_adjective and self.kind(place - 3) is not Kind.COLOUR  # 青い目の白い猫
        is_part = is_plain and fold_kana(self.words[place - 2].surface) in self.lexicon.parts
        if not self.is_particle(place - 1, "が") and not (is_part and self.is_particle(place - 1, "の")):
            return False
        return self.ends_clause(ahead + 2 if self.is_particle(ahead + 1) else ahead + 1)

    # Numbers: 二匹の猫, 猫が二匹, 猫2匹

    def read_number(self, place: int) -> None:
        behind = place - 1
        if self.is_particle(behind, "が", "を", "は", "も", "の") or self.kind(behind) is Kind.BREAK:
            behind -= 1
        ahead = next(iter(self.things_in_clause(place)), None)
        earlier = [p for p in self.things if p < place]
        order = [behind if behind in self.things else None, ahead, *reversed(earlier)]
        begins_clause = self.kind(place - 1) in (None, Kind.BREAK)
        if ahead is not None and (self.is_particle(place + 1, "の") or (begins_clause and ahead == place + 1)):
            order.insert(0, ahead)  # 犬、二匹の猫; 犬、3×猫
        free = [self.things[p] for p in order if p is not None and self.things[p].number_span is None]
        targets = free[:1]
        if self.words[place].surface.endswith("ずつ"):  # 犬と猫を二匹ずつ
            begin = max((p for p in self.places_of(Kind.BREAK) if p < place), default=0)
            targets = [thing for thing in free if begin <= thing.place < place] or targets
        for thing in targets:
            thing.number, thing.number_span = int(self.words[place].value), self.words[place].span
        if not targets:
            self.report(place)

    def report_upper_number(self, word: Token) -> None:
        """2〜3匹 is drawn as two."""
        numeral = NUMERAL.match(word.surface)
        if numeral and numeral["to"]:
            upper = numeral["upper"].lstrip(",、・ ")
            self.graph.unknown_spans.append((word.start + numeral.end() - len(upper), word.start + numeral.end()))

    def add_alike(self) -> None:
        """犬と犬 are two dogs; カブトムシとクワガタ have one name in English but stay apart."""
        related = [end for relation in self.graph.relations for end in (relation.subject, relation.reference)]
        free = [thing for thing in self.graph.things if thing not in related and thing.number_span is None]
        for first, second in reversed(list(pairwise(free))):
            between = self.words[first.place + 1 : second.place]
            is_joined = all(
                word.kind is Kind.COLOUR or (word.kind is Kind.PARTICLE and word.surface in ("と", "や", *_OF))
                for word in between
            )
            is_alike = fold_kana(self.words[first.place].surface) == fold_kana(self.words[second.place].surface)
            if is_joined and is_alike and first.colour == second.colour:
                first.number, first.number_span = first.number + second.number, second.span
                self.graph.things.remove(second)

    # Positions: 家の左に犬, 犬が家の左に, 犬の右側の猫; 左に犬、右に猫

    def read_positions(self) -> None:
        sides: dict[int, int] = {}  # a thing's place -> the place of its side in the picture
        for place in self.places_of(Kind.POSITION):
            if self.words[place].surface.startswith(self.lexicon.resuming):
                self.relate_to_last(place)
                continue
            if not self.is_particle(place - 1, "の"):
                subject = self.thing_on_side(place)
                if subject is None or subject in sides:
                    self.report(place)
                else:
                    sides[subject] = place
                continue
            reference = place - 2
            subject = self.subject_of(place, reference) if reference in self.things else None
            if subject is None:
                self.report(place)
            else:
                self.relate(subject, place, reference)
        self.pair_sides(sides)

    def relate_to_last(self, place: int) -> None:
        """家があって、その左に木: the next thing lies on that side of the last one."""
        reference = max((p for p in self.things if p < place), default=None)
        subject = min((p for p in self.things if p > place), default=None)
        if reference is None or subject is None:
            self.report(place)
        else:
            self.relate(subject, place, reference)

    def relate(self, subject: int, position: int, reference: int) -> None:
        """Note a relation; English can say one about each thing."""
        related = {thing.place for relation in self.graph.relations for thing in (relation.subject, relation.reference)}
        relation = Relation(self.things[subject], self.words[position].value, self.things[reference])
        if relation.subject is relation.reference or {relation.subject.place, relation.reference.place} & related:
            self.report(position)
        else:
            self.graph.relations.append(relation)

    def subject_of(self, position: int, reference: int) -> int | None:
        """What is on that side of the reference: the topic of the clause, else what follows, else what came before."""
        ahead = [p for p in self.things if p > position]
        in_clause = self.things_in_clause(position)
        if self.is_particle(position + 1, "で"):  # 木の下で本を読む猫: the cat is there
            in_clause.sort(key=lambda place: self.is_particle(place + 1, "を"))
        earlier = [p for p in self.things if p < reference and not self.is_particle(p + 1, "の")]
        if self.is_particle(position + 1, "の", "での", "からの") and ahead:
            return ahead[0]
        topics = [p for p in earlier if self.is_topic(p, reference)]
        return next(iter([*reversed(topics), *in_clause, *reversed(earlier), *ahead]), None)

    def is_topic(self, place: int, reference: int) -> bool:
        if not self.is_particle(place + 1, "は", "が", "も", "を"):
            return False
        pauses = self.words[place + 2].start == self.words[place + 1].end  # 犬は、家の左に
        return not any(self.kind(p) is Kind.BREAK for p in range(place + 2 + pauses, reference))

    def thing_on_side(self, position: int) -> int | None:
        """左に犬, 左は犬, 犬が左, 犬は左に."""
        behind = position - 2 if self.is_particle(position - 1, "は", "が", "を", "も") else position - 1
        if behind in self.things:
            return behind
        ahead = next((p for p in self.things if p > position), None)
        if ahead is None or any(self.kind(p) is Kind.POSITION for p in range(position + 1, ahead)):
            return None
        return ahead

    def pair_sides(self, sides: dict[int, int]) -> None:
        """Two things on opposite sides of the picture, or one on a side and the only other one."""
        while sides:
            subject, position = min(sides.items())
            del sides[subject]
            opposite = [p for p, q in sides.items() if self.words[q].value == _OPPOSITE[self.words[position].value]]
            others = [p for p in self.things if p != subject]
            if opposite:
                del sides[opposite[0]]
                self.relate(subject, position, opposite[0])
            elif len(others) == 1 and others[0] not in sides:
                self.relate(subject, position, others[0])
            else:
                self.report(position)
