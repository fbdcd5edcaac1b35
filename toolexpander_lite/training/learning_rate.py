"""The learning rate of a run: which it is, and its decay from round to round."""

from torch.optim.lr_scheduler import LambdaLR


def first_learning_rate(recipe, profile):
    """The recipe's, or else the profile's."""
    return recipe.learning_rate or profile.learning_rate


def decay_by_round(trainer, recipe):
    """Multiply the trainer's learning rate by `lr_decay` at each round's end (T10: 0.8; per round is our reading)."""
    round_steps, decay = recipe.round_steps * recipe.num_iterations, recipe.lr_decay
    trainer.lr_scheduler = LambdaLR(trainer.create_optimizer(), lambda step: decay ** (step // round_steps))
