"""The forms of an English word: jump, jumps, jumped, jumping. By the rules of spelling, so that no other word is one.

What a rule would get wrong is in two tables: verbs and plurals with forms of their own, and the adjectives that have
degrees and an adverb; the rest has neither, as "flow" has no "flower". Words written alike are one word here: "wind"
has the forms of the noun and of the verb.
"""

import re
from functools import cache

_OWN_FORMS = """
awake awoke awoken; bear bore born; beat beat beaten; become became; begin began begun; bend bent; bite bit bitten;
bleed bled; blow blew blown; break broke broken; breed bred; bring brought; build built; burn burnt; buy bought; catch
caught; choose chose chosen; cling clung; come came; creep crept; dig dug; do did done does; draw drew drawn; dream
dreamt; drink drank drunk; drive drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought;
find found; flee fled; fly flew flown; forget forgot forgotten; forgive forgave forgiven; freeze froze frozen; get got
gotten; give gave given; go went gone; grow grew grown; hang hung; have had has; hear heard; hide hid hidden; hold
held; keep kept; kneel knelt; know knew known; lay laid; lead led; lean leant; leap leapt; learn learnt; leave left;
lend lent; light lit; lose lost; lost lose loses losing; make made; mean meant; meet met; pay paid; ride rode ridden;
ring rang rung; rise rose risen; run ran; say said; see saw seen; seek sought; sell sold; send sent; shake shook
shaken; shine shone; shoot shot; show shown; shrink shrank shrunk; sing sang sung; sink sank sunk; sit sat; sleep
slept; slide slid; smell smelt; speak spoke spoken; spell spelt; spend spent; spill spilt; spin spun; stand stood;
steal stole stolen; stick stuck; sting stung; strike struck; swear swore sworn; sweep swept; swim swam swum; swing
swung; take took taken; teach taught; tear tore torn; tell told; think thought; throw threw thrown; understand
understood; wake woke woken; wear wore worn; weave wove woven; weep wept; win won; write wrote written; cut; hit;
hurt; let; put; quit; set; shut; split; spread; be am is are was were been; bad worse worst; close closer closest
closely; good better best; hard harder hardest; high higher highest highly; late later latest; low lower lowest; near
nearer nearest; shy shyer shyest shyly; child children; foot feet; goose geese; man men; mouse mice; person people;
tooth teeth; woman women
"""
_OF_BOTH_KINDS = "awake burn close dream hang kneel lean leap learn light near shine show smell spell spill weave"
_OWN = {word: frozenset(forms) for word, *forms in (row.split() for row in _OWN_FORMS.split(";"))}
_ALSO_REGULAR = frozenset(_OF_BOTH_KINDS.split())

_COMPARED = """
big black blue bold brave bright brown calm careful cheerful clean clear clever cold cool cozy curious dark deep dirty
dry dull eager easy fair fancy fast fat fierce fine firm foolish fresh friendly full funny fuzzy gentle glad gloomy
graceful grand grateful gray great greedy green grumpy happy harmless healthy heavy helpful honest hot huge humble
hungry jolly joyful kind large lazy light little lively lonely long loud lovely lucky mad mean messy mighty mild
modest narrow naughty neat nervous new nice noisy old orange patient peaceful pink playful polite poor pretty proud
purple quick quiet rare red rich ripe rough rude sad safe scary secret selfish serious sharp shiny short silly simple
sleepy slow small smart smooth soft sour spicy steady stiff strange strict strong stubborn sudden sunny sweet tall
tasty thankful thick thin thirsty tight tiny tired tough ugly useful warm weak wet white wide wild wise wonderful
young
"""
_ADJECTIVES = frozenset(_COMPARED.split())
_ONE_SYLLABLE = re.compile(r"(?:[^aeiouy]*|y|s?qu)[aeiouy][bcdfghjklmnpqrstvz]")
"""Whose last letter is doubled before a vowel: hop, hopping. In longer words the accent decides."""


@cache
def forms(word: str) -> frozenset[str]:
    """All forms of a word in small letters, itself among them.

    >>> sorted(forms("hop"))
    ['hop', "hop's", 'hopped', 'hopping', 'hops']
    """
    found = {word, f"{word}'s", *_with_s(word), *_before_vowel(word, "ing"), *_OWN.get(word, ())}
    if word not in _OWN or word in _ALSO_REGULAR:
        found |= _before_vowel(word, "ed")
    if word in _ADJECTIVES:
        found |= _before_vowel(word, "er") | _before_vowel(word, "est") | _adverbs(word)
    return frozenset(found)


def _with_s(word: str) -> set[str]:
    """The plural, or what he, she and it does."""
    if re.search(r"(?:[sxz]|ch|sh)$", word):
        return {word + "es"}
    if re.search(r"[^aeiou]y$", word):
        return {word[:-1] + "ies"}
    leaves = {re.sub(r"fe?$", "ves", word)} if re.search(r"(?:[aeo]a|e|i|l|o|r)fe?$", word) else set()
    return {word + "s", *leaves, *([word + "es"] if word.endswith("o") else [])}


def _before_vowel(word: str, ending: str) -> set[str]:
    """The word with an ending that begins with a vowel."""
    if word.endswith("ie") and ending == "ing":
        return {word[:-2] + "ying"}
    if word.endswith("e"):
        keeps = ending == "ing" and re.search(r"[eoy]e$", word)
        return {(word if keeps else word[:-1]) + ending}
    if re.search(r"[^aeiou]y$", word) and ending != "ing":
        return {word[:-1] + "i" + ending}
    if _ONE_SYLLABLE.fullmatch(word):
        return {word + word[-1] + ending}
    longer = re.search(r"[aeiouy][^aeiouy]+[aeiou][bdglmnprt]$", word)  # visited, but forgetting: both are let through
    return {word + ending, *([word + word[-1] + ending] if longer else [])}


def _adverbs(word: str) -> set[str]:
    if re.search(r"[^aeiou]le$", word):
        return {word[:-1] + "y"}
    if word.endswith("ll"):
        return {word + "y"}
    return {(word[:-1] + "i" if re.search(r"[^aeiou]y$", word) else word) + "ly"}
