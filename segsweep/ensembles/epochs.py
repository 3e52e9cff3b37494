"""Epochs of one trial as members: `trials/0001/epochs/0024.pth` gets a folder like a trial's, `epochs/0024/`.

A trial keeps such weights if `storage.keep_epochs` asks for it. Imports trainables' files.
"""

from trainables.trial_files import TrialFiles, name_again

__all__ = ["epoch_members"]


def epoch_members(trial: TrialFiles) -> tuple[TrialFiles, ...]:
    """Returns a folder with config and weights for each epoch that the trial has kept, earliest first.

    They are second names of the trial's own files, and cost no room.
    """
    members = []
    for epoch in trial.kept_epochs():
        member = TrialFiles(trial.epochs / f"{epoch:04d}")
        member.directory.mkdir(exist_ok=True)
        name_again(trial.config, member.config)
        name_again(trial.epoch_weights(epoch), member.best)
        members.append(member)
    return tuple(members)
