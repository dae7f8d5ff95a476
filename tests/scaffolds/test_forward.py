"""The scaffold on real tasks: prompts, parsing of every reference, assembly, fingerprints."""

import pytest
import torch

from vegtts_core.errors import UserError
from vegtts_core.scaffolds import Candidate, ForwardScaffold, Refusal, Role
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES, EXAMPLE_BODIES
from vegtts_core.tasks import build_reference, draw_inputs, exec_module, get_task, load_tasks

SCAFFOLD = ForwardScaffold()


def parse(task_id: int, completion: str) -> Candidate:
    found = SCAFFOLD.parse(get_task(task_id), completion)
    assert isinstance(found, Candidate), found
    return found


def test_every_reference_passes_the_allow_list() -> None:
    for task in load_tasks("level1"):
        assert isinstance(SCAFFOLD.parse(task, task.forward_body), Candidate), task.key


def test_examples_are_training_tasks_in_every_published_split() -> None:
    for split in ("l1_seed42_train", "l1_seed43_train", "l1_seed44_train"):
        assert set(EXAMPLE_BODIES) <= {task.id for task in load_tasks(split)}
    assert set(DEFAULT_EXAMPLES) <= set(EXAMPLE_BODIES)


@pytest.mark.parametrize("task_id", sorted(EXAMPLE_BODIES))
def test_every_example_computes_what_its_reference_does(task_id: int) -> None:
    task = get_task(task_id)
    candidate = parse(task_id, EXAMPLE_BODIES[task_id])
    inputs = draw_inputs(task, seed=7, wide=True)
    reference = build_reference(task, seed=3)
    namespace = exec_module(candidate.source)
    made = exec_module(task.source)["get_init_inputs"]()
    model = namespace["ModelNew"](*made)
    model.load_state_dict(reference.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs), reference(*inputs), rtol=1e-4, atol=1e-4)


def test_the_prompt_opens_the_method_and_shows_the_examples() -> None:
    task = get_task(12)
    prompt = SCAFFOLD.prompt(task, [get_task(25), get_task(16)])
    assert [message.role for message in prompt.messages] == [
        Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER, Role.ASSISTANT, Role.USER, Role.ASSISTANT,
    ]  # fmt: skip
    assert prompt.messages[-1].content.endswith("def forward(self, A, B):")
    assert "class Model(nn.Module)" in prompt.messages[-2].content
    assert "get_inputs" not in prompt.messages[-2].content
    assert prompt.id != SCAFFOLD.prompt(task).id


def test_an_example_without_a_body_is_refused() -> None:
    with pytest.raises(UserError, match="no worked example"):
        SCAFFOLD.prompt(get_task(12), [get_task(50)])


def test_equal_bodies_in_other_words_share_a_fingerprint() -> None:
    one = parse(1, "return A @ B")
    other = parse(1, "```python\ndef forward(self, A, B):\n    # the product\n    return (A@B)\n```")
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != parse(1, "return torch.mm(A, B)").fingerprint
    assert one.fingerprint != parse(2, "return A @ B").fingerprint


def test_the_candidate_keeps_the_constructor_and_nothing_that_makes_inputs() -> None:
    candidate = parse(50, "return self.conv1(x)")
    namespace = exec_module(candidate.source)
    assert "get_inputs" not in namespace
    assert sum(p.numel() for p in namespace["ModelNew"](1000).parameters()) > 0


def test_another_number_of_arguments_is_refused() -> None:
    found = SCAFFOLD.parse(get_task(1), "def forward(self, A):\n    return A")
    assert isinstance(found, Refusal)
    assert "1 arguments where the task has 2" in found.reason
