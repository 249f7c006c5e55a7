"""Prompts of the synthetic dataset: composed from ``vocabulary.toml`` in the manners people write in.

Text only. Who wrote it, with which generator, and how it was received is in ``metadata.py`` and ``maker.py``.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

Words = list[str]

_LORAS = (
    "lantern_glow", "inkwash_v2", "PaperFold-XL", "tidal_glass", "moss_knit", "green_vale_ill", "clockwork_detail",
    "NightTram", "salt film grain", "felt_world_v1.1", "add_more_detail", "soft_backlight",
)  # fmt: skip
# Fewer parts than this and swapping one would leave another prompt.
_ENOUGH_TAGS = 3
_STRESS = ("{}", "({}:{weight})", "(({}))", "[{}]")
_EMBEDDINGS = ("easy_harbor", "bad_lamp_v2", "neg-quiet")


@cache
def vocabulary() -> Mapping[str, Mapping[str, object]]:
    """The word lists, read once."""
    return cast(
        "Mapping[str, Mapping[str, object]]",
        tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text("utf-8")),
    )


def lora_names() -> Sequence[str]:
    """The names LoRA tags in prompts use."""
    return _LORAS


class PromptWriter:
    """Writes prompts and negative prompts with the randomness it is given."""

    def __init__(self, random: Random) -> None:
        self.random = random
        words = vocabulary()
        self._shared = cast("Mapping[str, Words]", words["shared"])
        self._languages = list(cast("Mapping[str, Words]", words["languages"]).values())
        self._themes = list(cast("Mapping[str, Mapping[str, Words]]", words["themes"]).values())
        manners: list[tuple[Callable[[], str], float]] = [
            (self._tags, 34),
            (self._sentences, 24),
            (self._mixture, 16),
            (self._booru, 9),
            (self._weighted_tags, 7),
            (self._short, 3.5),
            (self._foreign, 3),
            (self._long, 1.5),
            (self._blocks, 1.5),
            (self._emoji, 0.5),
        ]
        self._manners = [manner for manner, _ in manners]
        self._shares = [share for _, share in manners]

    def prompt(self) -> str:
        """A new prompt; two may come out alike by chance, but rarely do."""
        text = self.random.choices(self._manners, self._shares)[0]()
        if self._chance(0.22):
            text = (
                f"{text}, {self.lora_tag()}"
                if self._chance(0.7)
                else f"{self.lora_tag()} {self._one('triggers')}, {text}"
            )
        if self._chance(0.02):
            text += ","
        return text

    def negative(self) -> str:
        """A negative prompt; sometimes empty, as forms send it."""
        if self._chance(0.06):
            return ""
        text = ", ".join(self._several("negative", 2, 16))
        return f"{text}, embedding:{self.random.choice(_EMBEDDINGS)}" if self._chance(0.05) else text

    def same_text(self, prompt: str) -> str:
        """Another spelling that normalises to the same prompt: case, spaces, weights, LoRA tags."""
        parts = prompt.split(", ")
        plain = parts[0].isascii() and "(" not in prompt and "<" not in parts[0]
        match self.random.choice(("case", "spaces", "weight" if plain else "spaces", "lora", "white space")):
            case "case":
                return prompt.upper() if self._chance(0.3) else prompt.capitalize()
            case "spaces":
                return prompt.replace(", ", " ,  ") + "  "
            case "weight":
                parts[0] = f"({parts[0]}:{self.random.choice(('1.1', '1.2', '1.35'))})"
                return ", ".join(parts)
            case "lora":
                return f"{prompt} {self.lora_tag()}"
            case _:
                return prompt.replace(" ", "\n", 1) if self._chance(0.3) else f" {prompt}"

    def near_text(self, prompt: str) -> str:
        """The prompt with a word or two changed: a near duplicate."""
        separator = ", " if prompt.count(", ") >= _ENOUGH_TAGS else " "
        parts = prompt.split(separator)
        where = self.random.randrange(len(parts))
        group = self.random.choice(("lighting", "mood", "color", "weather"))
        parts[where] = self._one(group) if separator == ", " else self._one(group).split(" ")[0]
        return separator.join(parts)

    def lora_tag(self) -> str:
        """A LoRA tag as it is typed into a prompt."""
        name = self.random.choice(_LORAS)
        if self._chance(0.05):
            return f"<lora:{name}>"
        return f"<lora:{name}:{self.random.choice(('0.4', '0.6', '0.75', '0.8', '1', '1.0', '1.2', '-0.5'))}>"

    # -- manners

    def _tags(self) -> str:
        theme = self._theme()
        parts = self._several("quality", 0, 4)
        parts.append(self._of(theme, "subjects"))
        if self._chance(0.7):
            parts.append(self._of(theme, "doings"))
        parts += self._some(theme["details"], 1, 6)
        if self._chance(0.6):
            parts.append(self._of(theme, "places"))
        for group in ("style", "lighting", "camera", "mood", "color", "weather", "technical"):
            if self._chance(0.45):
                parts += self._several(group, 1, 2)
        if self._chance(0.25):
            parts += self._several("quality", 1, 4)
        return (", " if self._chance(0.9) else ",").join(parts)

    def _sentences(self) -> str:
        theme = self._theme()
        opening = self._one("openings") + " " if self._chance(0.7) else "The "
        subject = self._of(theme, "subjects").removeprefix("1")
        article = "" if opening == "The " else _article(subject)
        first = f"{opening}{article}{subject} {self._of(theme, 'doings')} {self._of(theme, 'places')}."
        sentences = [first]
        if self._chance(0.7):
            first_detail, second_detail = self._of(theme, "details"), self._of(theme, "details")
            sentences.append(f"With {first_detail} and {second_detail}, in {self._one('color')}.")
        sentences += self._several("bridges", 0, 3)
        if self._chance(0.6):
            sentences.append(
                f"The mood is {self._one('mood')}, with {self._one('lighting')} and {self._one('weather')}."
            )
        if self._chance(0.5):
            sentences.append(f"{self._one('style').capitalize()}, {self._one('camera')}.")
        return " ".join(sentences)

    def _mixture(self) -> str:
        before, after = self._several("quality", 1, 3), self._several("camera", 1, 3)
        return ", ".join([*before, self._sentences().rstrip("."), *after])

    def _weighted_tags(self) -> str:
        parts = []
        for part in self._tags().split(", "):
            weight = self.random.choice(("0.8", "1.1", "1.2", "1.3", "1.45"))
            parts.append(self.random.choices(_STRESS, (76, 16, 4, 4))[0].format(part, weight=weight))
        if self._chance(0.1):
            parts.append(f"[{self._one('color')}:{self._one('color')}:0.4]")
        return ", ".join(parts)

    def _booru(self) -> str:
        parts = self._several("booru", 5, 18)
        if self._chance(0.35):
            parts.insert(1, self._one("characters"))
        if self._chance(0.6):
            parts = [*self._several("quality", 2, 5), *parts]
        return ", ".join(parts)

    def _short(self) -> str:
        theme = self._theme()
        return (
            self._of(theme, "subjects")
            if self._chance(0.5)
            else f"{self._of(theme, 'subjects')} {self._of(theme, 'places')}"
        )

    def _foreign(self) -> str:
        language = self.random.choice(self._languages)
        mark = "، " if language[0] == "سوق قديم" else "、" if language[0][0] > "぀" and self._chance(0.5) else ", "
        text = mark.join(self._some(language, 2, 6))
        return f"{text}, {', '.join(self._several('quality', 1, 3))}" if self._chance(0.3) else text

    def _long(self) -> str:
        return " ".join(self._sentences() for _ in range(self.random.randint(6, 24)))

    def _blocks(self) -> str:
        joint = "\nBREAK\n" if self._chance(0.5) else ",\n\n" if self._chance(0.5) else " BREAK "
        return joint.join(self._tags() for _ in range(self.random.randint(2, 4)))

    def _emoji(self) -> str:
        marks = "".join(self._several("emoji", 1, 4))
        return marks if self._chance(0.3) else f"{marks} {self._short()} {marks[0]}"

    # -- drawing words

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _theme(self) -> Mapping[str, Words]:
        return self.random.choice(self._themes)

    def _of(self, theme: Mapping[str, Words], group: str) -> str:
        return self.random.choice(theme[group])

    def _one(self, group: str) -> str:
        return self.random.choice(self._shared[group])

    def _several(self, group: str, low: int, high: int) -> Words:
        return self._some(self._shared[group], low, high)

    def _some(self, words: Words, low: int, high: int) -> Words:
        return self.random.sample(words, min(len(words), self.random.randint(low, high)))


def _article(noun: str) -> str:
    if noun.endswith("s") and not noun.endswith("ss"):
        return ""
    return "an " if noun[0] in "aeiou" else "a "
