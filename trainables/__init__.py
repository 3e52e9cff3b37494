"""How one trial trains and predicts: config assembly, the training process, the Ray trainable.

Stands on segdata, segscore and search_spaces. Import the rooms by name: some of them bring torch and mm* along.
"""
