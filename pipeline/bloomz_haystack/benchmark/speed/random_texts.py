"""A seed -> texts of French and English words, as long as the passages and questions of SQuAD; unit vectors.

Every word is one token of the tokenizer made for them, so a length in words is a length in tokens.
"""

import numpy as np
import numpy.typing as npt

_FRENCH = """
le la les un une de du des et ou où que qui dont dans sur sous avec sans pour par est sont était fut a ont elle il ils
elles nous vous on ce cette ces son sa ses leur plus moins très bien aussi ville pays rivière montagne siècle année
guerre paix reine roi peuple langue musique école église maison pont tour jardin chemin livre auteur œuvre science
lumière énergie matière cellule forêt mer île port marché monnaie travail loi droit pouvoir histoire mémoire grande
petit ancien nouvelle premier dernière célèbre construit écrit trouvé né mort fondée nommé située près loin après
avant pendant entre depuis jusque comment pourquoi quand combien
"""
_ENGLISH = """
the an of and or where that which whose in on under with without for by is are was were has have she he they we you it
this these his her its their more less very well also city country river mountain century year war peace queen king
people language music school church house bridge tower garden road book author work science light energy matter cell
forest sea island harbour market money labour law right power history memory great small old new first last famous
built written found born died founded named located near far after before during between since until how why when many
"""
FRENCH, ENGLISH = _FRENCH.split(), _ENGLISH.split()


def draw_lengths(count: int, mean: float, shortest: int, longest: int, rng: np.random.Generator) -> list[int]:
    """Draw lengths as those of SQuAD: lognormal.

    :param count: how many.
    :param mean: of the lengths, before they are cut to the bounds.
    :param shortest: bound.
    :param longest: bound.
    :param rng: seeded.
    :returns: `count` lengths.
    """
    sigma = 0.45  # of the logarithm
    drawn = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return [int(length) for length in np.clip(drawn.round(), shortest, longest)]


def random_texts(lengths: list[int], rng: np.random.Generator) -> list[str]:
    """Write texts, in French and in English by turns.

    :param lengths: words of each.
    :param rng: seeded.
    :returns: as many texts.

    >>> len(random_texts([3, 5], np.random.default_rng(0))[1].split())
    5
    """
    words = (FRENCH, ENGLISH)
    return [" ".join(rng.choice(words[place % 2], length)) for place, length in enumerate(lengths)]


def random_vectors(count: int, dimension: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return random unit vectors.

    :param count: how many.
    :param dimension: D.
    :param rng: seeded.
    :returns: (count, D) float32.
    """
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
