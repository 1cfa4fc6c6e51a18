"""`PreferenceTrainer`: the alignment step, called as TRL's trainers are."""
