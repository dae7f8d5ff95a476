"""Our self-distillation beside TRL's experimental SDPOTrainer and the paper: a table of what each does.

TRL's side is read from its own configuration, so that it says what the installed version does by default.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pandas as pd

from vegtts_core.book.tables import Column
from vegtts_core.runs import Run

COLUMNS = {
    "aspect": Column(""),
    "paper": Column("paper"),
    "trl": Column("TRL, by default"),
    "here": Column("here"),
    "same": Column("alike"),
}


def trl_defaults() -> dict[str, Any]:
    """Default of every field of TRL's SDPOConfig."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental is said in the chapter
        from trl.experimental.sdpo import SDPOConfig

    return {
        field.name: field.default
        for field in dataclasses.fields(SDPOConfig)
        if field.default is not dataclasses.MISSING
    }


def peer_table(run: Run, trl: dict[str, Any] | None = None) -> pd.DataFrame:
    """What the paper says, TRL does by default and this run did, aspect by aspect; columns of ``COLUMNS``."""
    values = trl_defaults() if trl is None else trl
    parameters = run.manifest["parameters"]
    distillation = parameters["distillation"]
    loss = {"dapo": "over all tokens of the step", "grpo": "over tokens, then rollouts", "dr_grpo": "over rollouts"}
    solution = "not shown" if not distillation["solution"] else "the fastest correct one that is another candidate"
    feedback = "not shown" if not distillation["feedback"] else "the evaluator's verdict, quotations cut"
    rate = values["teacher_update_rate"]
    teacher = {
        "live": "the student, live",
        "base": "the policy at the start",
        "ema": f"a moving average (rate {rate:g})",
    }
    clip = values["distillation_is_clip"]
    rows = [
        (
            "advantage of a token",
            "β (log p teacher − log p student), β = 1",
            f"the same, as the weight of mode {values['distillation_mode']}",
            f"β = {distillation['beta']:g}"
            + ("" if distillation["clip"] is None else f", |A| ≤ {distillation['clip']}"),
            distillation["beta"] == 1 and distillation["clip"] is None,
        ),
        (
            "log-probabilities at",
            "not said",
            "the sampling temperature",
            "the sampling temperature"
            if parameters["loss_temperature"] in (None, parameters["temperature"])
            else f"temperature {parameters['loss_temperature']:g}",
            parameters["loss_temperature"] in (None, parameters["temperature"]),
        ),
        ("teacher's weights", "not said", teacher[values["teacher_model_kind"]], "the student, live", False),
        (
            "loss averaged",
            "not said",
            "over tokens, then rollouts",
            loss[parameters["update"]["loss"]],
            parameters["update"]["loss"] == "grpo",
        ),
        (
            "off-policy correction",
            "not said",
            "none" if clip is None else f"ratio, at most {clip:g}",
            "ratio" if parameters["update"]["clip"] is None else f"ratio, clipped at {parameters['update']['clip']:g}",
            False,
        ),
        (
            "solution shown",
            "a correct one of the batch, optional",
            "the first of the group that succeeds",
            solution,
            False,
        ),
        (
            "the student's own success",
            "its code never",
            "left out, its copies not" if values["dont_reprompt_on_self_success"] else "may be shown",
            "left out, and copies of it",
            False,
        ),
        (
            "feedback",
            "status, speedup, runtime, error traces",
            "a text fixed before the rollout"
            if values["include_environment_feedback"]
            else "none (a column, if wanted)",
            feedback,
            False,
        ),
        (
            "rollout with nothing to show",
            "the prompt-only teacher",
            "left out of the loss",
            "the closing instruction" if distillation["closing"] else "advantage 0",
            not distillation["closing"],
        ),
        ("prompt ends with", "not said", "the user's turn, else an error", "what the scaffold opened", False),
        (
            "long contexts",
            "not said",
            f"cut on the left to {values['max_reprompt_len']:,} tokens",
            "never cut",
            False,
        ),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.assign(same=["yes" if same else "" for same in frame["same"]])
