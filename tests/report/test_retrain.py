from tadscale.report.retrain import decision_line, retrain_markdown
from tadscale.retrain.decision import Decision
from tadscale.retrain.record import AgeScore, Derivation, Outcome, RetrainRecord

MADE = Derivation(run="again-1", champion=3, start_says="version 3's", teacher_says="trained anew: speed moved")
RECORD = RetrainRecord(
    state="finished",
    derivation=MADE,
    settings_digest="s",
    training_digest="t",
    decision=Decision(retrain=True, reasons=("20 new training videos", "luma moved")),
    outcome=Outcome(
        version=4,
        is_champion=True,
        tests={
            "old": AgeScore(videos=30, champion=0.5, challenger=0.512),
            "new": AgeScore(videos=4, champion=None, challenger=0.25),
        },
    ),
    seconds={"drift": 1.25, "decomposed": 60.0},
)


def test_one_paragraph_says_why_from_what_how_it_ended_and_how_long_it_took():
    text = retrain_markdown(RECORD)
    assert text.count("\n") == 1
    for said in (
        "**train: 20 new training videos; luma moved** (the champion is version 3).",
        "Run `again-1`. Backbone: version 3's. Teacher: trained anew: speed moved.",
        "Version 4 is the champion.",
        "On 30 old test videos it has 51.2 average mAP (the champion 50.0).",
        "On 4 new test videos it has 25.0 average mAP.",
        "Seconds: drift 1.2, decomposed 60.0.",
    ):
        assert said in text


def test_an_idle_tick_and_a_killed_one_say_so():
    idle = RECORD.model_copy(
        update={"state": "idle", "outcome": None, "decision": Decision(retrain=False, reasons=("none is new",))}
    )
    assert decision_line(idle.decision) == "nothing to do: none is new"
    assert "Run " not in retrain_markdown(idle)
    killed = RECORD.model_copy(update={"state": "training", "outcome": None})
    assert "the next tick goes on with it" in retrain_markdown(killed)
    assert "are not finished" not in retrain_markdown(killed)
