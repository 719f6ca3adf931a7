"""What surveys of people measured of their heads: means and standard deviations, men and women apart.

Computed by ``scripts/build/summarise_surveys.py`` from the surveys' public files, which hold a line a person.

NIOSH: head-and-face survey of US respirator users by caliper and tape, 2003; 2,543 men and 1,454 women from 18 to 66
years. Dataset RD-10130-2020-0 of the US Centers for Disease Control, a work of the US government, file
``RespiratorUsersData-all-subjects.csv``, read from a copy: github.com/bkerly/Mask_Fit at fd5191d, SHA-256
0f70a408…a1a9f7. Described by Zhuang and Bradtmiller, J Occup Environ Hyg 2(11):567–576, 2005, who weight people to the
US population. The file has no weights, so these are figures of the sample; 31 % of it are African American, and noses
and lips, in which groups differ most, should vary more in it than in the population.

ANSUR II: survey of US Army personnel, 2012; 4,082 men and 1,986 women from 17 to 58 years, drawn to match the Army.
``ANSUR_II_MALE_Public.csv`` and ``ANSUR_II_FEMALE_Public.csv``, cleared for unlimited public release, read from a copy:
github.com/KhadijehValipour/ANSUR at d20788f, SHA-256 177a9ee2…8a35ab and 4854f488…b9648f.
"""

from __future__ import annotations

import dataclasses
import math

NIOSH = "NIOSH 2003"
ANSUR = "ANSUR II"

SIZE = "overall size"
# The size of a head: the geometric mean of these, which NIOSH took of every person.
SIZE_DIMENSIONS = (
    "head length",
    "head breadth",
    "head circumference",
    "bizygomatic breadth",
    "bigonial breadth",
    "menton–sellion length",
    "subnasale–sellion length",
    "nose breadth",
    "nose protrusion",
    "lip length",
    "interpupillary distance",
)

# Survey → dimension → its column in the survey's file.
COLUMNS = {
    NIOSH: {
        "head length": "HEADLTH",
        "head breadth": "HEADBR",
        "head circumference": "HEADCIRC",
        "bizygomatic breadth": "BIZYGOBR",
        "bigonial breadth": "BIGONLBR",
        "menton–sellion length": "MENSELL",
        "subnasale–sellion length": "SUBNASAL",
        "nose breadth": "NOSEBR",
        "nose protrusion": "NOSEPRO",
        "lip length": "LIPLTH",
        "interpupillary distance": "INTPUPBR",
    },
    ANSUR: {
        "head length": "headlength",
        "head breadth": "headbreadth",
        "head circumference": "headcircumference",
        "bizygomatic breadth": "bizygomaticbreadth",
        "menton–sellion length": "mentonsellionlength",
        "interpupillary distance": "interpupillarybreadth",
    },
}


@dataclasses.dataclass(frozen=True)
class Group:
    """One sex in one survey.

    Attributes:
        count: how many people.
        mean, deviation: millimetres (of ``PROPORTIONS``: no unit); the deviation with n − 1.
    """

    count: int
    mean: float
    deviation: float


@dataclasses.dataclass(frozen=True)
class Published:
    """A dimension in one survey.

    Attributes:
        survey: ``NIOSH`` or ``ANSUR``.
        men, women: each sex by itself.
    """

    survey: str
    men: Group
    women: Group

    @property
    def mean(self) -> float:
        """Of men and women with equal weights."""
        return (self.men.mean + self.women.mean) / 2

    @property
    def deviation(self) -> float:
        """Of men and women with equal weights: mean of the variances plus variance of the means."""
        within = (self.men.deviation**2 + self.women.deviation**2) / 2
        return math.sqrt(within + ((self.men.mean - self.women.mean) / 2) ** 2)


def _published(survey: str, men: tuple[int, float, float], women: tuple[int, float, float]) -> Published:
    return Published(survey, Group(*men), Group(*women))


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "head length": (
        _published(NIOSH, (2543, 197.36, 7.51), (1454, 187.56, 7.60)),
        _published(ANSUR, (4082, 199.50, 7.02), (1986, 189.82, 7.45)),
    ),
    "head breadth": (
        _published(NIOSH, (2543, 153.10, 5.96), (1454, 146.99, 5.75)),
        _published(ANSUR, (4082, 154.33, 5.53), (1986, 147.77, 5.19)),
    ),
    "head circumference": (
        _published(NIOSH, (2543, 576.08, 17.55), (1453, 558.74, 20.65)),
        _published(ANSUR, (4082, 574.37, 16.05), (1986, 561.12, 19.36)),
    ),
    "bizygomatic breadth": (
        _published(NIOSH, (2542, 143.89, 6.86), (1453, 136.24, 6.53)),
        _published(ANSUR, (4082, 142.62, 6.22), (1986, 133.77, 5.56)),
    ),
    "bigonial breadth": (_published(NIOSH, (2543, 120.70, 10.70), (1454, 111.64, 9.27)),),
    "menton–sellion length": (
        _published(NIOSH, (2543, 123.19, 7.16), (1454, 114.23, 6.47)),
        _published(ANSUR, (4082, 122.64, 6.67), (1986, 113.09, 6.09)),
    ),
    "subnasale–sellion length": (_published(NIOSH, (2543, 51.88, 4.12), (1454, 47.68, 3.81)),),
    "nose breadth": (_published(NIOSH, (2543, 37.81, 4.80), (1454, 35.81, 4.92)),),
    "nose protrusion": (_published(NIOSH, (2543, 20.80, 2.75), (1454, 18.94, 2.68)),),
    "lip length": (_published(NIOSH, (2543, 51.65, 4.27), (1454, 49.15, 4.47)),),
    "interpupillary distance": (
        _published(NIOSH, (2543, 65.07, 3.80), (1453, 63.14, 3.98)),
        _published(ANSUR, (4082, 64.02, 3.42), (1986, 61.71, 3.62)),
    ),
    SIZE: (_published(NIOSH, (2542, 93.85, 3.39), (1451, 88.52, 3.51)),),
}

# Proportions: the logarithm of a dimension over the person's size (``SIZE``), so its deviation is a share.
PROPORTIONS: dict[str, Published] = {
    "head length": _published(NIOSH, (2542, 0.7432, 0.0378), (1451, 0.751, 0.0397)),
    "head breadth": _published(NIOSH, (2542, 0.4892, 0.0367), (1451, 0.5073, 0.0424)),
    "head circumference": _published(NIOSH, (2542, 1.8147, 0.0289), (1451, 1.8427, 0.0336)),
    "bizygomatic breadth": _published(NIOSH, (2542, 0.4269, 0.037), (1451, 0.431, 0.0387)),
    "bigonial breadth": _published(NIOSH, (2542, 0.2484, 0.0749), (1451, 0.2297, 0.0677)),
    "menton–sellion length": _published(NIOSH, (2542, 0.271, 0.0473), (1451, 0.2542, 0.0439)),
    "subnasale–sellion length": _published(NIOSH, (2542, -0.5953, 0.075), (1451, -0.6208, 0.0743)),
    "nose breadth": _published(NIOSH, (2542, -0.9161, 0.1081), (1451, -0.9133, 0.1163)),
    "nose protrusion": _published(NIOSH, (2542, -1.5149, 0.1249), (1451, -1.551, 0.1337)),
    "lip length": _published(NIOSH, (2542, -0.6, 0.0692), (1451, -0.5916, 0.0728)),
    "interpupillary distance": _published(NIOSH, (2542, -0.3672, 0.0472), (1451, -0.339, 0.0471)),
}
