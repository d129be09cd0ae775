"""The answer first: the verdicts in a paragraph, in a table, and what was compared with what."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.record.table import empty_truths, metric_name
from harness.reports.ablation import format
from harness.reports.ablation.findings import Answers, Verdicts, pairings
from harness.reports.document import Block, Refusal, Section, Table, Text, row
from harness.stats.effects import Effect
from harness.stats.interplay import Interplay
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


def plainly(found: Verdicts) -> str:
    """The verdicts in one paragraph, for somebody who has not seen the code."""
    cells, ablation = found.cells, found.ablation
    if not found.judged:
        return "No trial has scores on a set that judges, so there is no verdict yet. Run the same command again."
    where = "unseen data sets" if found.measured.unseen else "test parts of the sources (the study names no target)"
    images = sum(len(target.patients) for target in cells.targets)
    began = (
        f"{count(len(cells.arms), 'arm')} were trained in {count(len(cells.replicates), 'replicate')} each "
        f"and judged by {metric_name(ablation.primary)} on the {where} "
        f"{listed(tuple(target.name for target in cells.targets))} ({count(images, 'image')}). "
        f"A difference below {ablation.smallest:g} was declared to be of no interest."
    )
    return " ".join(
        [
            began,
            *cautions(found),
            *(_told(one, ablation.smallest) for one in found.judged),
            *_looks(found),
            *_missing(found),
            *empty_truths(found.table.images),
            _settings(found),
        ]
    )


def cautions(found: Verdicts) -> list[str]:
    """What must be read before a verdict: pairs of which a main effect says too little, and what the design hides."""
    return [*map(_interplay, found.interplays), *_averages(found), *_blind(found)]


def _interplay(pair: Interplay) -> str:
    return (
        f"**{pair.one} and {pair.other} depend on each other** (interaction {_size(pair.interaction)}, Holm p "
        f"{format.probability(pair.holm_p)}): {'; '.join(map(_simple, pair.simple))}."
    )


def _simple(effect: Effect) -> str:
    return f"{effect.contrast}, {_size(effect)}"


def _averages(found: Verdicts) -> list[str]:
    if not found.interplays:
        return []
    names = list(dict.fromkeys(name for pair in found.interplays for name in (pair.one, pair.other)))
    return [f"The verdicts on {listed(names)} are about averages over these cases, and hold for none of them alone."]


def _blind(found: Verdicts) -> list[str]:
    """What the design cannot see, where no two of its contrasts can be told to depend on each other."""
    kind, components = found.ablation.kind, list(found.ablation.components)
    if len(components) < 2 or pairings(found.ablation):
        return []
    if kind == "add_one_in":
        return [
            "Each component was added to the base alone: what several of them bring together is not known, and a "
            "factorial would tell."
        ]
    return [
        f"Each effect is what a component adds {'to all others' if kind == 'leave_one_out' else 'beside the others'}, "
        "which is blind to redundancy: a component for which another can stand in seems to add nothing, although to "
        "leave out both may hurt; a factorial would tell."
    ]


def _told(one: Judged, smallest: float) -> str:
    effect = one.effect
    size = _size(effect)
    name = f"**{effect.contrast}**"
    match one.verdict:
        case Matters(direction):
            return f"{name} matters: it {direction}, by {size}, shown to be more than {smallest:g}{_inflated(one)}."
        case Differs(direction, why=why):
            return f"{name} {direction}, perhaps too little to matter: by {size}{_inflated(one)}; {why}."
        case Opposed(helps, hurts):
            return (
                f"{name} helps on {listed(helps)} and hurts on {listed(hurts)}: {_on(one, (*helps, *hurts))}. The mean "
                f"over all targets, {size}, hides that."
            )
        case SmallOnAverage(elsewhere):
            return (
                f"{name} does not matter on average: its mean effect, {size}, was shown to be below what is of "
                f"interest. That was not shown on {_on(one, elsewhere)}."
            )
        case DoesNotMatter():
            return (
                f"{name} does not matter: its effect, {size}, was shown to be below what is of interest"
                f"{_everywhere(one)}."
            )
        case Undecided(why=why):
            return f"{name} is undecided: its effect is {size}{_corrected(one)}; {why}."


def _size(effect: Effect) -> str:
    told = format.effected(effect.estimate, effect.low, effect.high)
    return told.replace(" [", " (95 % interval ").replace("]", ")")


def _on(one: Judged, names: Sequence[str]) -> str:
    return listed(f"{effect.target}, {_size(effect)}" for effect in one.targets if effect.target in names)


def _everywhere(one: Judged) -> str:
    return f", on each of the {len(one.targets)} targets" if len(one.targets) > 1 else ""


def _inflated(one: Judged) -> str:
    if not _selected(one):
        return ""
    return (
        f" (studies that show an effect of this size overstate it by a factor of {one.inflation:.1f} on average: "
        "expect less of it elsewhere)"
    )


def _selected(one: Judged) -> bool:
    """Whether the verdict is of an effect that is overstated so far that it can be seen."""
    return one.inflation >= 1.05


def overstated(found: Verdicts) -> str:
    """By how much effects are overstated that were found because they came out large enough; empty where none is."""
    told = [f"{one.effect.contrast} by a factor of {one.inflation:.1f}" for one in found.judged if _selected(one)]
    if not told:
        return ""
    return f"Studies that show effects of these sizes overstate them on average, {listed(told)}: expect less elsewhere."


def _corrected(one: Judged) -> str:
    """Why a comparison is undecided although its own interval holds no 0: it is one of several."""
    if math.isnan(one.holm_p) or not (one.effect.low > 0 or one.effect.high < 0):
        return ""
    p = format.probability(one.holm_p)
    return f", whose interval alone leaves 0 out, but corrected for all comparisons and looks p is {p}"


def _looks(found: Verdicts) -> list[str]:
    """How many looks there were, and what is left for those to come; nothing before the first."""
    looks = found.looks
    if not looks.done:
        return []
    growing = f"{100 * looks.growing(ALPHA):.2g} %"
    last = count(looks.past[-1], "replicate")
    if looks.done == 1:
        which = f"This is the first look at the study, at {last}"
    else:
        which = (
            f"This is look {looks.done} at the study, at {last} (before: {listed(tuple(map(str, looks.past[:-1])))})"
        )
    told = f"{which}; all looks together err in at most {100 * ALPHA:g} % of studies, this one in {_error(looks)}."
    if looks.ahead:
        return [f"{told} Where verdicts are open replicates are added, up to {looks.at[-1]}."]
    if not any(isinstance(one.verdict, Undecided | Differs) for one in found.judged):
        return [told]
    if not looks.growing(ALPHA):
        return [f"{told} No error is left for further looks: more replicates would not change these verdicts."]
    return [
        f"{told} **Growing the study is a further look**, which may err in {growing}, and the numbers of further "
        "replicates count with that. A study that plans its looks from the beginning, with `--until-decided`, needs "
        "fewer."
    ]


def _error(looks: Looks) -> str:
    return f"{100 * looks.errors[looks.done - 1]:.2g} %"


def _missing(found: Verdicts) -> list[str]:
    asked = found.measured.asked
    lost = int((asked & ~found.cells.finished).sum())
    if not lost:
        return []
    return [
        f"{lost} of {int(asked.sum())} trials have no result. A comparison uses the replicates that more than "
        "half of its arms completed; the runs that these lack are filled in from the rest and widen the interval."
    ]


def _settings(found: Verdicts) -> str:
    if found.ablation.tuned:
        return (
            f"The settings were tuned: every arm ran with the best of {found.ablation.tuned} trials of its own, chosen "
            "by validation on the sources."
        )
    return "All arms ran with the same fixed settings; an arm may do better with settings of its own."


def verdicts(found: Answers) -> Section:
    """The verdict table."""
    if not found.judged:
        return Section("Verdicts", (Refusal("no trial has scores on a set that judges."),))
    header = ("comparison", "verdict", "effect [95 % interval]", "p: differs", "p: matters", "p: small on average",
              "p: small everywhere", "overstated", "finds 4 of 5 effects of", "more replicates needed", "replicates",
              "images", "patients")  # fmt: skip
    rows = tuple(_row(one) for one in found.judged)
    smallest = found.ablation.smallest
    caption = (
        f"Effects on {metric_name(found.ablation.primary)} over {count(len(found.cells.targets), 'test set')}, "
        f"each with equal weight. **Matters**: shown to be larger than {smallest:g}. **Helps** or **hurts**, perhaps "
        "too little to matter: shown to differ from 0. **Does not matter**: shown to be smaller than "
        f"{smallest:g} on every target; on average: their mean is. Where single targets differ from 0 in opposite "
        f"directions, they are named instead. Shown: the p of that name is at most {ALPHA:g}; all are adjusted for the "
        f"{len(found.judged)} comparisons together and for the study's looks. **Undecided** says that nothing was "
        "shown, not that there is no effect: these replicates find four of five true effects of the size in the column "
        "of that name, fewer of smaller ones. The interval is that of the one comparison, over replicates and "
        "patients, both drawn anew. Overstated: how many times too large an effect of this size comes out on average "
        "in those studies that reach "
        "this verdict on it (type M error, Gelman and Carlin 2014); where the true one is smaller than it seems, more. "
        "More replicates needed: to decide it with a chance of 80 % if effect and variances are what they seem, a "
        "rough number without an interval."
    )
    return Section("Verdicts", (Table("verdicts", caption, header, rows, pd.DataFrame(map(_flat, found.judged))),))


def _row(one: Judged) -> tuple[Any, ...]:
    effect = one.effect
    return row(
        effect.contrast,
        format.verdict(one.verdict),
        format.effected(effect.estimate, effect.low, effect.high),
        *map(format.probability, (one.holm_p, one.beyond_p, one.equivalence_p, one.everywhere_p)),
        format.NONE if math.isnan(one.inflation) else f"{one.inflation:.2f} times",
        format.size(one.detectable),
        format.more(one),
        format.replicates(effect),
        format.share(effect.images, effect.images + effect.undefined),
        str(effect.patients),
    )


def _flat(one: Judged) -> dict[str, Any]:
    further = one.verdict.more if isinstance(one.verdict, Undecided | Differs) and not format.untested(one) else None
    return {
        **one.effect.row(),
        "holm_p": one.holm_p,
        "beyond_p": one.beyond_p,
        "equivalence_p": one.equivalence_p,
        "everywhere_p": one.everywhere_p,
        "inflation": one.inflation,
        "detectable": one.detectable,
        "verdict": format.verdict(one.verdict).text,
        "more_replicates": further,
    }


def compared(found: Answers) -> Section:
    """What each arm is, and what each contrast compares."""
    blocks: list[Block] = [
        Text(
            f"The design is `{found.ablation.kind}`. An arm is the base with the differences named here, and nothing "
            "else; at equal replicate all arms see the same batches, augmentation draws and prompts, and the same "
            "fold validates, so that their differences are paired."
        ),
        _arms(found),
        _contrasts(found),
    ]
    return Section("What was compared", tuple(blocks))


def _arms(found: Answers) -> Table:
    differences = found.ablation.differences
    told = {arm: "; ".join(f"{path} = {difference(v)}" for path, v in differences[arm].items()) for arm in differences}
    rows = tuple(row(arm, text or "nothing: it is the base") for arm, text in told.items())
    frame = pd.DataFrame({"arm": list(told), "differences": [json.dumps(differences[arm]) for arm in told]})
    caption = f"What each of the {len(rows)} arms changes in the base, derived from the recorded settings."
    return Table("arms", caption, ("arm", "differs from the base in"), rows, frame)


def _contrasts(found: Answers) -> Table:
    sides = {contrast.name: format.formula(contrast) for contrast in found.ablation.contrasts}
    rows = tuple(row(name, more, less) for name, (more, less) in sides.items())
    flat = [
        {"contrast": contrast.name, "arm": arm, "weight": weight}
        for contrast in found.ablation.contrasts
        for arm, weight in contrast.weights.items()
    ]
    caption = "What each comparison compares: a positive effect means that the first side scores higher."
    return Table("contrasts", caption, ("comparison", "score of", "less score of"), rows, pd.DataFrame(flat))
