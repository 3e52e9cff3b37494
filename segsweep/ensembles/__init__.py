"""From trials to an ensemble and what it predicts: members, their prediction sets, choosing, fusing, scoring."""
