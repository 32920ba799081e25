"""Adversarial training: who sees what, which steps are made, what is logged, and that it can be taken up again."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialIterationEvents
from torch import nn
from torch.utils.data import DataLoader

from medsr_monai.system.errors import InputError
from medsr_monai.training import AdversarialTrainer, TrainingDiverged, losses
from tests.training.samples import collect_losses, network, patches, standing_still

WEIGHTS = {"pixel": 1.0, "adversarial": 0.1}


class Judge(nn.Module):
    """A discriminator of two layers that remembers what it was shown."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv3d(1, 4, 3, stride=2)
            self.last = nn.Conv3d(4, 1, 1)
        self.seen: list[tuple[torch.Tensor, bool]] = []

    def forward(self, image):
        self.seen.append((image.detach().clone(), self.first.weight.requires_grad))
        features = torch.tanh(self.first(image))
        return [self.last(features)], [features]


def trainer_of(items=None, epochs: int = 1, net=None, judge=None, batch_size: int = 2, **kwargs) -> AdversarialTrainer:
    items = patches(2) if items is None else items
    net = network() if net is None else net
    judge = Judge() if judge is None else judge
    optimizer = kwargs.pop("optimizer", lambda parameters: torch.optim.Adam(parameters, lr=1e-3))
    return AdversarialTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(items, batch_size=batch_size),
        network=net,
        optimizer=optimizer(net.parameters()),
        discriminator=judge,
        discriminator_optimizer=optimizer(judge.parameters()),
        adversarial_loss=kwargs.pop("adversarial_loss", losses.NonSaturating()),
        losses=kwargs.pop("losses", {"pixel": nn.L1Loss()}),
        weights=kwargs.pop("weights", WEIGHTS),
        **kwargs,
    )


def test_the_discriminator_is_shown_targets_as_real_and_projected_output_as_fake():
    judge = Judge()
    trainer = trainer_of(judge=judge)
    trainer.run()
    output = trainer.state.output
    (in_generator_step, learns), (real, learns_real), (fake, learns_fake) = judge.seen
    assert not learns and learns_real and learns_fake, "the generator's step leaves the discriminator as it is"
    assert torch.equal(real, output["label"]) and torch.equal(fake, output["pred"])
    assert torch.equal(in_generator_step, output["pred"])
    assert all(parameter.requires_grad for parameter in judge.parameters())


def test_both_networks_learn_and_both_optimisers_step():
    net, judge = network(), Judge()
    before = copy.deepcopy([net.state_dict(), judge.state_dict()])
    trainer_of(net=net, judge=judge).run()
    for old, new in zip(before, [net.state_dict(), judge.state_dict()], strict=True):
        assert all(not torch.equal(old[name], value) for name, value in new.items() if "weight" in name)


@pytest.mark.slow
def test_discriminator_wins_against_a_generator_that_stands_still():
    judge = Judge()
    trainer = trainer_of(epochs=60, judge=judge)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    for group in trainer.discriminator_optimizer.param_groups:
        group["lr"] = 0.02
    values = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: values.append(dict(e.state.output["losses"])))
    trainer.run()
    assert values[-1]["discriminator"] < 0.8 * values[0]["discriminator"]
    assert values[-1]["verdict_real"] > values[-1]["verdict_fake"] + 0.3


def test_loss_is_the_weighted_sum_of_the_terms_that_count():
    weights = {"pixel": 0.5, "unprojected": 0.2, "edges": 2.0, "adversarial": 0.3, "feature_matching": 0.7, "mse": 0.0}
    images = {"pixel": nn.L1Loss(), "edges": losses.GradientLoss(), "mse": Never()}
    trainer = trainer_of(patches(2, noise=0.02), losses=images, weights=weights, optimizer=standing_still)
    trainer.run()
    terms = trainer.state.output["losses"]
    counted = [name for name, weight in weights.items() if weight]
    assert set(terms) == {*counted, "discriminator", "verdict_real", "verdict_fake"}
    expected = sum(weights[name] * float(terms[name]) for name in counted)
    assert float(trainer.state.output["loss"]) == pytest.approx(expected, rel=1e-5)
    sr, hr = trainer.state.output["pred"], trainer.state.output["label"]
    assert float(terms["pixel"]) == pytest.approx(float((sr - hr).abs().mean()), rel=1e-5)
    assert float(terms["unprojected"]) != pytest.approx(float(terms["pixel"]), rel=1e-3)
    assert trainer.state.metrics["train_pixel"] == pytest.approx(float(terms["pixel"]), rel=1e-5)


class Never(nn.Module):
    def forward(self, sr, hr):
        raise AssertionError("a term without weight is not computed")


@pytest.mark.parametrize("steps", [1, 3])
def test_discriminator_steps_each_see_other_images(steps):
    judge = Judge()
    trainer = trainer_of(patches(2 * steps), judge=judge, batch_size=2 * steps, discriminator_steps=steps)
    made = {"generator": 0, "discriminator": 0}
    for name, event in (("generator", "GENERATOR"), ("discriminator", "DISCRIMINATOR")):
        event = getattr(AdversarialIterationEvents, f"{event}_MODEL_COMPLETED")
        trainer.add_event_handler(event, lambda e, name: made.update({name: made[name] + 1}), name)
    trainer.run()
    assert made == {"generator": 1, "discriminator": steps}
    reals = [image for image, _ in judge.seen[1::2]]
    assert len(reals) == steps and len({image.sum().item() for image in reals}) == steps


@pytest.mark.parametrize("objective", [losses.LeastSquares(), losses.WassersteinGradientPenalty()])
def test_micro_batches_make_the_same_step(objective):
    states = []
    for parts in (1, 2):
        net, judge = network(), Judge()
        items = patches(4)
        trainer = trainer_of(
            items,
            net=net,
            judge=judge,
            batch_size=4,
            micro_batches=parts,
            adversarial_loss=objective,
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            weights={"pixel": 1.0, "adversarial": 1.0},
        )
        trainer.run()
        states.append({**net.state_dict(), **judge.state_dict()})
    if isinstance(objective, losses.WassersteinGradientPenalty):
        # Its interpolation points are drawn for each part, so only the generator's step is the same.
        states = [{k: v for k, v in state.items() if not k.startswith(("first", "last"))} for state in states]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_activation_checkpointing_makes_the_same_step():
    states, kept = [], []
    for on in (False, True):
        net = network()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            trainer_of(net=net, activation_checkpointing=on).run()
        states.append(net.state_dict())
        kept.append(sum(saved))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert kept[1] < 0.9 * kept[0]


def test_activation_checkpointing_of_a_network_without_blocks_is_refused():
    with pytest.raises(InputError, match="activation_checkpointing: no block"):
        trainer_of(net=Judge(), activation_checkpointing=True)


@pytest.mark.parametrize("objective", [losses.RelativisticAverage(), losses.WassersteinGradientPenalty()])
@pytest.mark.parametrize("steps", [1, 2])
def test_interrupted_training_ends_as_if_it_had_not_been(objective, steps):
    def run(epochs: int, state=None):
        trainer = trainer_of(
            patches(4), epochs, batch_size=2 * steps, adversarial_loss=objective, discriminator_steps=steps
        )
        parts = [trainer.network, trainer.discriminator, trainer.optimizer, trainer.discriminator_optimizer, trainer]
        if state is not None:
            state = torch.load(io.BytesIO(state), weights_only=True)
            for part, saved in zip(parts, state, strict=True):
                part.load_state_dict({**saved, "max_epochs": epochs} if part is trainer else saved)
        found = collect_losses(trainer)
        trainer.run()
        saved = io.BytesIO()
        torch.save([dict(part.state_dict()) for part in parts], saved)
        return found, saved.getvalue(), parts[0].state_dict(), parts[1].state_dict()

    whole = run(4)
    first = run(2)
    second = run(4, first[1])
    assert whole[0] == first[0] + second[0]
    for kept, expected in ((second[2], whole[2]), (second[3], whole[3])):
        assert all(torch.equal(kept[name], value) for name, value in expected.items())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("term", ["edges", "discriminator"])
def test_training_stops_at_the_term_that_goes_wrong(term, bad):
    class Spoiled(nn.Module):
        calls = 0

        def forward(self, sr, hr):
            self.calls += 1
            return (sr - hr).abs().mean() * (bad if self.calls == 3 and term == "edges" else 1.0)

    class SpoiledObjective(losses.NonSaturating):
        calls = 0

        def discriminator(self, real, fake):
            self.calls += 1
            return super().discriminator(real, fake) * (bad if self.calls == 3 and term == "discriminator" else 1.0)

    net, judge = network(), Judge()
    trainer = trainer_of(
        patches(8),
        net=net,
        judge=judge,
        losses={"pixel": nn.L1Loss(), "edges": Spoiled()},
        weights={**WEIGHTS, "edges": 1.0},
        adversarial_loss=SpoiledObjective(),
    )
    with pytest.raises(TrainingDiverged, match=rf"iteration 3: the term '{term}' is (nan|inf)"):
        trainer.run()
    for part in (net, judge):
        assert all(bool(torch.isfinite(p).all()) for p in part.parameters()), "no bad number reaches the weights"


def test_a_gradient_that_is_not_finite_stops_it_too():
    class Cusp(nn.Module):
        def forward(self, sr, hr):
            return (sr - sr).abs().sum().sqrt()

    net = network()
    trainer = trainer_of(net=net, losses={"pixel": Cusp()})
    with pytest.raises(TrainingDiverged, match="iteration 1: the gradient of RRDBNet is nan"):
        trainer.run()
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())


def test_handlers_attach_to_every_event():
    trainer, seen = trainer_of(), []
    wanted = [*IterationEvents, *AdversarialIterationEvents]
    for event in wanted:
        trainer.add_event_handler(event, lambda e, event: seen.append(event), event)
    trainer.run()
    never = {
        IterationEvents.INNER_ITERATION_STARTED,
        IterationEvents.INNER_ITERATION_COMPLETED,
        AdversarialIterationEvents.RECONSTRUCTION_LOSS_COMPLETED,
        AdversarialIterationEvents.GENERATOR_DISCRIMINATOR_FORWARD_COMPLETED,
    }
    assert {event.name for event in wanted} - {event.name for event in seen} == {event.name for event in never}
    assert seen[-1] == IterationEvents.MODEL_COMPLETED
    names = [event.name for event in seen]
    assert names.index("GENERATOR_MODEL_COMPLETED") < names.index("DISCRIMINATOR_REALS_FORWARD_COMPLETED")


def test_mixed_precision_keeps_the_losses_in_float32():
    trainer = trainer_of(amp=True, weights={**WEIGHTS, "feature_matching": 1.0})
    trainer.run()
    assert trainer.state.output["pred"].dtype == torch.float32
    assert all(math.isfinite(float(value)) for value in trainer.state.output["losses"].values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"pixel": 1.0, "adverserial": 1.0}}, "adverserial"),
        ({"weights": {"pixel": -1.0}}, "pixel is -1"),
        ({"discriminator_steps": 0}, "discriminator_steps 0"),
        ({"micro_batches": 0}, "micro_batches 0"),
        ({"micro_batches": 3}, "batch of 2: cannot be cut into 3 equal parts"),
    ],
    ids=["unknown-term", "negative", "no-steps", "no-parts", "uneven"],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        trainer_of(**settings).run()
