"""The verdicts in a paragraph and in a table, and the comparisons behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.record.metric_names import metric_name
from harness.record.table import empty_truths
from harness.reports.ablation import format
from harness.reports.ablation.design import pairings
from harness.reports.ablation.findings import Findings
from harness.reports.ablation.judgement import Judgement
from harness.reports.document import Block, Columns, Refusal, Section, Table, Text, table
from harness.stats.effects import Effect
from harness.stats.interplay import Interplay
from harness.stats.multiplicity import CORRECTION
from harness.stats.scores import Contrast
from harness.stats.sequential import ALPHA, Looks
from harness.stats.verdicts import (
    Differs,
    DoesNotMatter,
    Judged,
    Matters,
    Opposed,
    SmallOnAverage,
    Undecided,
)
from harness.text import count, difference, listed


def plainly(judgement: Judgement) -> str:
    """The verdicts in one paragraph, for readers who do not know the code."""
    cells, ablation = judgement.cells, judgement.ablation
    if not judgement.judged:
        return "No trial has test scores yet, so there is no verdict. Run the same command again to continue."
    where = "unseen data sets" if judgement.scores.unseen else "test parts of the sources (the study has no targets)"
    images = sum(len(target.patients) for target in cells.targets)
    began = (
        f"{count(len(cells.arms), 'arm')} ran in {count(len(cells.replicates), 'replicate')} each and were tested by "
        f"{metric_name(ablation.primary)} on the {where} {listed(tuple(target.name for target in cells.targets))} "
        f"({count(images, 'image')}). A difference below {ablation.smallest:g} was declared too small to be of "
        "interest."
    )
    return " ".join(
        [
            began,
            *cautions(judgement),
            *(_sentence(one, ablation.smallest) for one in judgement.judged),
            *_looks(judgement),
            *_missing(judgement),
            *empty_truths(judgement.table.images),
            _settings(judgement),
        ]
    )


def cautions(judgement: Judgement) -> list[str]:
    """The cautions to read before a verdict: pairs that depend on each other, and effects that the design hides."""
    return [*map(_interplay, judgement.interplays), *_averages(judgement), *_blind(judgement)]


def _interplay(pair: Interplay) -> str:
    return (
        f"**{pair.one} and {pair.other} depend on each other** (interaction {_size(pair.interaction)}, "
        f"{CORRECTION} p {format.probability(pair.adjusted_p)}): {'; '.join(map(_simple, pair.simple))}."
    )


def _simple(effect: Effect) -> str:
    return f"{effect.contrast}, {_size(effect)}"


def _averages(judgement: Judgement) -> list[str]:
    if not judgement.interplays:
        return []
    names = list(dict.fromkeys(name for pair in judgement.interplays for name in (pair.one, pair.other)))
    return [f"The verdicts on {listed(names)} are averages over these cases and need not hold for any of them."]


def _blind(judgement: Judgement) -> list[str]:
    """The effects that a design hides which cannot show whether two contrasts depend on each other."""
    kind, components = judgement.ablation.kind, list(judgement.ablation.components)
    if len(components) < 2 or pairings(judgement.ablation):
        return []
    if kind == "add_one_in":
        return [
            "Each component was added to the base on its own, so the effect of several together is not known; a "
            "factorial design would show it."
        ]
    return [
        f"Each effect is what a component adds {'to all others' if kind == 'leave_one_out' else 'next to the others'}, "
        "which is blind to redundancy: a component that another one can replace seems to add nothing, although "
        "leaving out both may hurt; a factorial design would show it."
    ]


def _sentence(one: Judged, smallest: float) -> str:
    effect = one.effect
    size = _size(effect)
    name = f"**{effect.contrast}**"
    match one.verdict:
        case Matters(direction):
            return f"{name} matters: it {direction} by {size}, which is shown to exceed {smallest:g}{_inflated(one)}."
        case Differs(direction, why=why):
            return f"{name} {direction} by {size}, perhaps too little to matter{_inflated(one)}; {why}."
        case Opposed(helps, hurts):
            return (
                f"{name} helps on {listed(helps)} and hurts on {listed(hurts)}: {_on(one, (*helps, *hurts))}. The mean "
                f"over all targets, {size}, hides that."
            )
        case SmallOnAverage(elsewhere):
            return (
                f"{name} does not matter on average: its mean effect, {size}, is shown to be too small to be of "
                f"interest. This is not shown on {_on(one, elsewhere)}."
            )
        case DoesNotMatter():
            return (
                f"{name} does not matter: its effect, {size}, is shown to be too small to be of "
                f"interest{_everywhere(one)}."
            )
        case Undecided(why=why):
            return f"{name} is undecided: its effect is {size}{_corrected(one)}; {why}."


def _size(effect: Effect) -> str:
    return format.estimate(effect).replace(" [", " (95 % interval ").replace("]", ")")


def _on(one: Judged, names: Sequence[str]) -> str:
    return listed(f"{effect.target}, {_size(effect)}" for effect in one.targets if effect.target in names)


def _everywhere(one: Judged) -> str:
    return f", on each of the {len(one.targets)} targets" if len(one.targets) > 1 else ""


def _inflated(one: Judged) -> str:
    if not _selected(one):
        return ""
    return (
        f" (studies that show such an effect overstate it by a factor of {one.inflation:.1f} on average: expect a "
        "smaller one elsewhere)"
    )


def _selected(one: Judged) -> bool:
    """Whether the verdict is of an effect that is overstated so far that it can be seen."""
    return one.inflation >= 1.05


def overstated(judgement: Judgement) -> str:
    """The factors by which selected effects are overstated; empty where there is none."""
    effects = [
        f"{one.effect.contrast} by a factor of {one.inflation:.1f}" for one in judgement.judged if _selected(one)
    ]
    if not effects:
        return ""
    return (
        f"Studies that show such effects overstate them on average, {listed(effects)}: expect smaller ones elsewhere."
    )


def _corrected(one: Judged) -> str:
    """Why a comparison is undecided although its own interval holds no 0: it is one of several."""
    if math.isnan(one.differs_p) or not (one.effect.low > 0 or one.effect.high < 0):
        return ""
    p = format.probability(one.differs_p)
    return f", whose own interval excludes 0, but p is {p} when corrected for all comparisons and looks"


def _looks(judgement: Judgement) -> list[str]:
    """How many looks there were, and what is left for those to come; nothing before the first."""
    looks = judgement.looks
    if not looks.done:
        return []
    growing = f"{100 * looks.growing(ALPHA):.2g} %"
    last = count(looks.past[-1], "replicate")
    if looks.done == 1:
        which = f"This is the first look at the study, at {last}"
    else:
        which = (
            f"This is look {looks.done} at the study, at {last} (earlier looks: at "
            f"{listed(tuple(map(str, looks.past[:-1])))})"
        )
    text = f"{which}; all looks together err in at most {100 * ALPHA:g} % of studies, this one in {_error(looks)}."
    if looks.ahead:
        return [f"{text} Replicates are added where verdicts are open, up to {looks.at[-1]}."]
    if not any(isinstance(one.verdict, Undecided | Differs) for one in judgement.judged):
        return [text]
    if not looks.growing(ALPHA):
        return [f"{text} No error rate is left for further looks: more replicates would not change these verdicts."]
    return [
        f"{text} **Adding replicates is a further look**, which may err in {growing} of studies; the numbers of "
        "further replicates take this into account. A study that plans its looks from the start, with "
        "`--until-decided`, needs fewer."
    ]


def _error(looks: Looks) -> str:
    return f"{100 * looks.errors[looks.done - 1]:.2g} %"


def _missing(judgement: Judgement) -> list[str]:
    asked = judgement.scores.asked
    lost = int((asked & ~judgement.cells.finished).sum())
    if not lost:
        return []
    return [
        f"{lost} of {int(asked.sum())} trials have no result. A comparison uses the replicates that more than half of "
        "its arms completed; the runs that these lack are imputed from the others and widen the interval."
    ]


def _settings(judgement: Judgement) -> str:
    if judgement.ablation.tuned:
        return (
            f"The settings were tuned: each arm ran with the best of its {judgement.ablation.tuned} tuning trials, "
            "chosen by validation on the sources."
        )
    return "All arms ran with the same fixed settings; an arm may do better with settings tuned for it."


def verdicts(findings: Findings) -> Section:
    """The verdict table."""
    if not findings.judged:
        return Section("Verdicts", (Refusal("no trial has test scores."),))
    smallest = findings.ablation.smallest
    caption = (
        f"Effects on {metric_name(findings.ablation.primary)} over {count(len(findings.cells.targets), 'test set')}, "
        f"each with equal weight. **Matters**: shown to be larger than {smallest:g}. **Helps** or **hurts**, perhaps "
        f"too little to matter: shown to differ from 0. **Does not matter**: shown to be smaller than {smallest:g} on "
        "every target; on average: the mean over targets is. Where effects on single targets differ from 0 in "
        f"opposite directions, the verdict names these targets. Shown: the p of that name is at most {ALPHA:g}; all p "
        f"are adjusted for the {len(findings.judged)} comparisons together and for the looks at the study. "
        "**Undecided** says that nothing was shown, not that there is no effect. Detectable effect: the size of a "
        "true effect that these replicates find with a chance of 80 %; smaller effects are found less often. The "
        "interval is that of the one comparison, with replicates and patients both random. Overstated: the factor by "
        "which studies with this verdict overstate such an effect on average (type M error, Gelman and Carlin 2014); "
        "it is larger where the true effect is smaller than it seems. More replicates needed: the number that decides "
        "the comparison with a chance of 80 % if effect and variances are what they seem, a rough number without an "
        "interval."
    )
    frame = pd.DataFrame(map(_flat, findings.judged))
    return Section("Verdicts", (table("verdicts", caption, findings.judged, COLUMNS, frame),))


COLUMNS: Columns[Judged] = {
    "comparison": lambda one: one.effect.contrast,
    "verdict": lambda one: format.verdict_cell(one.verdict),
    "effect [95 % interval]": lambda one: format.estimate(one.effect),
    "p: differs": lambda one: format.probability(one.differs_p),
    "p: matters": lambda one: format.probability(one.beyond_p),
    "p: small on average": lambda one: format.probability(one.equivalence_p),
    "p: small everywhere": lambda one: format.probability(one.everywhere_p),
    "overstated": lambda one: format.NONE if math.isnan(one.inflation) else f"{one.inflation:.2f} times",
    "detectable effect": lambda one: format.size(one.detectable),
    "more replicates needed": format.replicates_needed,
    "replicates": lambda one: format.replicates(one.effect),
    "images": lambda one: format.images(one.effect),
    "patients": lambda one: str(one.effect.patients),
}
"""The columns of the verdict table."""


def _flat(one: Judged) -> dict[str, Any]:
    further = one.verdict.more if isinstance(one.verdict, Undecided | Differs) and not format.untested(one) else None
    return {
        **one.effect.row(),
        "holm_p": one.differs_p,
        "beyond_p": one.beyond_p,
        "equivalence_p": one.equivalence_p,
        "everywhere_p": one.everywhere_p,
        "inflation": one.inflation,
        "detectable": one.detectable,
        "verdict": format.verdict_cell(one.verdict).text,
        "more_replicates": further,
    }


def compared(findings: Findings) -> Section:
    """The arms and the contrasts."""
    blocks: list[Block] = [
        Text(
            f"The design is `{findings.ablation.kind}`. An arm is the base with the differences listed here and no "
            "others. In the same replicate all arms see the same batches, augmentation draws and prompts and validate "
            "on the same fold, so that their differences are paired."
        ),
        _arms(findings),
        _contrasts(findings),
    ]
    return Section("What was compared", tuple(blocks))


def _arms(findings: Findings) -> Table:
    differences = findings.ablation.differences
    changes = {
        arm: "; ".join(f"{path} = {difference(v)}" for path, v in differences[arm].items()) for arm in differences
    }
    columns: Columns[str] = {
        "arm": str,
        "differs from the base in": lambda arm: changes[arm] or "nothing: it is the base",
    }
    frame = pd.DataFrame({"arm": list(changes), "differences": [json.dumps(differences[arm]) for arm in changes]})
    caption = f"What each of the {len(changes)} arms changes in the base, derived from the recorded settings."
    return table("arms", caption, changes, columns, frame)


def _contrasts(findings: Findings) -> Table:
    columns: Columns[Contrast] = {
        "comparison": lambda contrast: contrast.name,
        "score of": lambda contrast: contrast.sides()[0],
        "minus score of": lambda contrast: contrast.sides()[1],
    }
    flat = [
        {"contrast": contrast.name, "arm": arm, "weight": weight}
        for contrast in findings.ablation.contrasts
        for arm, weight in contrast.weights.items()
    ]
    caption = "What each comparison compares: a positive effect means that the first side scores higher."
    return table("contrasts", caption, findings.ablation.contrasts, columns, pd.DataFrame(flat))
