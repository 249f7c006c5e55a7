"""Prompts in families of near duplicates, made up of made-up words. No tests here."""

from __future__ import annotations

import random

_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "ai", "ou")]


def families(count: int, seed: int = 1) -> list[list[str]]:
    """Families of prompts: tag lists and sentences, each changed a little at a time, or all at once from the first."""
    rng = random.Random(seed)  # noqa: S311 - made-up prompts, no secrets
    words = ["".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3)))) for _ in range(3000)]
    weights = [1 / (place + 5) for place in range(len(words))]

    def phrase(longest: int = 3) -> str:
        return " ".join(rng.choices(words, weights, k=rng.randint(1, longest)))

    made = []
    for _ in range(count):
        longest = rng.choice((3, 3, 9))
        first = [phrase(longest) for _ in range(rng.randint(4, 40 if longest == 3 else 12))]
        family, latest = [first], first
        for _ in range(rng.choice((0, 0, 1, 3, 8))):
            latest = list(rng.choice((first, latest)))
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(latest))
                match rng.choice(("change", "add", "drop", "move")):
                    case "change":
                        latest[place] = phrase()
                    case "add":
                        latest.insert(place, phrase())
                    case "drop" if len(latest) > 1:
                        del latest[place]
                    case _:
                        latest.append(latest.pop(place))
            family.append(latest)
        made.append([", ".join(parts) for parts in family])
    return made
