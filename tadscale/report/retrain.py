"""What a tick of retraining decided and did, in a paragraph."""

from tadscale.retrain.decision import Decision
from tadscale.retrain.record import AgeScore, RetrainRecord


def decision_line(decision: Decision) -> str:
    """In a sentence, for a terminal."""
    return f"{'train' if decision.retrain else 'nothing to do'}: {'; '.join(decision.reasons)}"


def retrain_markdown(record: RetrainRecord) -> str:
    """One paragraph: what was decided, from what the training started, how it ended, how long it took."""
    made = record.derivation
    against = "there is no champion" if made.champion is None else f"the champion is version {made.champion}"
    said = [f"**{decision_line(record.decision)}** ({against})."]
    if record.decision.retrain:
        said.append(f"Run `{made.run}`. Backbone: {made.start_says}. Teacher: {made.teacher_says}.")
    if record.state == "training":
        said.append("It is under way, or was killed: the next tick goes on with it.")
    if record.state == "abandoned":
        said.append("It was killed, and its job or its data were changed since: it is not finished.")
    if record.outcome is not None:
        became = "is the champion" if record.outcome.is_champion else "stays challenger"
        said.append(f"Version {record.outcome.version} {became}.")
        if record.outcome.against not in (None, made.champion):
            said.append(f"It was held against version {record.outcome.against}, which had become champion meanwhile.")
        said += [_on_tests(age, score) for age, score in record.outcome.tests.items()]
    if record.seconds:
        said.append("Seconds: " + ", ".join(f"{name} {took:.1f}" for name, took in record.seconds.items()) + ".")
    return " ".join(said) + "\n"


def _on_tests(age: str, score: AgeScore) -> str:
    before = "" if score.champion is None else f" (the champion {100 * score.champion:.1f})"
    return f"On {score.videos} {age} test videos it has {100 * score.challenger:.1f} average mAP{before}."
